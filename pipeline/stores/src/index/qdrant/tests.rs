//! The contract, over the network; and what only a network can do.

use std::{net::SocketAddr, sync::atomic::AtomicU32, sync::atomic::Ordering};

use dih_core::{Class, Classify, chain};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    served::{Access, Listener, Tls},
    *,
};
use crate::{
    contract::{self, sample},
    index::EdgeIndex,
};

const COLLECTION: &str = "images";

/// A server of ours on a free port, over a directory of its own.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    index: Arc<EdgeIndex>,
    _home: TempDir,
}

impl Server {
    fn start(api_key: Option<Secret>) -> Self {
        Self::serve(api_key, None)
    }

    fn serve(api_key: Option<Secret>, tls: Option<&Tls>) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let index = Arc::new(EdgeIndex::open(home.path(), &contract::spaces()).expect("opens"));
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), tls).expect("a free port");
        let (address, access) = (listener.address(), Access { api_key, collection: COLLECTION.into() });
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = listener.serve(index.clone(), access, async {
            let _ = stopped.await;
        });
        let serving = tokio::spawn(async { serve.await.expect("serves") });
        Self { address, stop: Some(stop), serving: Some(serving), index, _home: home }
    }

    fn settings(&self) -> Settings {
        settings(format!("http://{}", self.address), COLLECTION)
    }

    async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            serving.await.expect("ends");
        }
    }
}

fn settings(url: String, collection: &str) -> Settings {
    Settings { url, api_key: None, collection: collection.into(), replicas: 1, timeout: Duration::from_secs(10) }
}

async fn connect(settings: Settings) -> Result<QdrantIndex, StoreError> {
    QdrantIndex::connect(settings, &contract::spaces()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_served_index_keeps_the_contract() {
    let servers = std::sync::Mutex::new(Vec::new());
    let make = async || {
        let server = Server::start(None);
        let index = connect(server.settings()).await.expect("connects");
        servers.lock().expect("nobody panicked").push(server);
        Arc::new(index) as Arc<dyn Index>
    };
    contract::index(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_served_index_tells_which_vector_was_put_later() {
    let mut server = Server::start(None);
    let index = connect(server.settings()).await.expect("connects");
    let (space, vector) = (contract::spaces()[0].0.clone(), vec![1.0; contract::SPACE_NUMBERS]);
    for n in [2, 1] {
        index.claim(&sample::record(n)).await.expect("claims");
        index.put_vector(sample::id(n), &space, &vector).await.expect("puts");
    }
    let near = index.near_vectors(&space, &vector, 0.9, Among::default(), 5).await.expect("searches");
    assert!(near[0].was_put_after(&near[1]) && !near[1].was_put_after(&near[0]), "{near:?}");
    server.stop().await;
}

/// Against a server that `DIH_TEST_QDRANT_URL` names, in collections of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_qdrant_server_keeps_the_contract() {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let Ok(url) = std::env::var("DIH_TEST_QDRANT_URL") else {
        return eprintln!("DIH_TEST_QDRANT_URL names no server: not tried");
    };
    let make = async || {
        let name = format!("dih-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        Arc::new(connect(settings(url.clone(), &name)).await.expect("connects")) as Arc<dyn Index>
    };
    contract::index(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_single_process_wrote_is_served_and_the_other_way_round() {
    let mut server = Server::start(None);
    server.index.claim(&sample::record(1)).await.expect("claims");
    let client = connect(server.settings()).await.expect("connects");
    assert_eq!(client.get(sample::id(1)).await.expect("reads"), Some(sample::record(1)));
    client.change(sample::id(1), &Change::to(State::Held)).await.expect("changes");
    assert_eq!(server.index.get(sample::id(1)).await.expect("reads").map(|r| r.state), Some(State::Held));
    server.stop().await;
    server.index.change(sample::id(1), &Change::to(State::Curated)).await.expect("changes");
    assert_eq!(server.index.get(sample::id(1)).await.expect("reads").map(|r| r.state), Some(State::Curated));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_nobody_is_let_in() {
    let mut server = Server::start(Some(Secret::new("right")));
    for key in [None, Some("wrong")] {
        let settings = Settings { api_key: key.map(Secret::new), ..server.settings() };
        let error = connect(settings).await.expect_err("is let in by no key, or a wrong one");
        assert_eq!(error.class(), Class::Halt, "{}", chain(&error));
        assert!(chain(&error).to_string().contains("stores.qdrant.api_key_file"), "{}", chain(&error));
    }
    let settings = Settings { api_key: Some(Secret::new("right")), ..server.settings() };
    let client = connect(settings).await.expect("has the key");
    assert_eq!(client.count(&Select::default()).await.expect("counts"), 0);
    server.stop().await;
}

fn certificate() -> Tls {
    let (certificates, key) = contract::certificate();
    Tls { certificates, key: Secret::new(key) }
}

/// A client that trusts it is in `tests/tests/cluster.rs`: whom to trust is a variable, which is of a whole process.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_is_refused_and_so_is_plain_text() {
    let mut server = Server::serve(None, Some(&certificate()));
    let encrypted = settings(format!("https://{}", server.address), COLLECTION);
    let error = connect(encrypted).await.expect_err("is vouched for by nobody");
    assert_eq!(error.class(), Class::Halt, "{}", chain(&error));
    assert!(chain(&error).to_string().contains("SSL_CERT_FILE"), "{}", chain(&error));
    connect(server.settings()).await.expect_err("plain text is not answered");
    server.stop().await;
    let plain = Server::start(None);
    let encrypted = settings(format!("https://{}", plain.address), COLLECTION);
    let error = connect(encrypted).await.expect_err("has no certificate");
    assert_eq!(error.class(), Class::Halt, "{}", chain(&error));
    assert!(chain(&error).to_string().contains("speaks plain text"), "{}", chain(&error));
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused() {
    let mixed = Tls { key: certificate().key, ..certificate() };
    let broken = Tls { certificates: "no PEM".into(), ..certificate() };
    for tls in [mixed, broken] {
        let error = Listener::bind(([127, 0, 0, 1], 0).into(), Some(&tls)).expect_err("do not belong together");
        assert!(chain(&error).to_string().contains("stores.served.cert_file"), "{}", chain(&error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_tried_again_later() {
    let mut server = Server::start(None);
    let client = connect(server.settings()).await.expect("connects");
    server.stop().await;
    let error = client.get(sample::id(1)).await.expect_err("nobody answers");
    assert_eq!(error.class(), Class::Retry, "{}", chain(&error));
    let refused = connect(server.settings()).await.expect_err("nobody answers");
    assert_eq!(refused.class(), Class::Retry, "{}", chain(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_another_model_is_refused() {
    let mut server = Server::start(None);
    let spaces = [(VectorSpace("another".into()), 16)];
    let error = QdrantIndex::connect(server.settings(), &spaces).await.expect_err("is made for another model");
    assert_eq!(error.class(), Class::Halt);
    assert!(chain(&error).to_string().contains("has no vector `another` of 16 numbers"), "{}", chain(&error));
    let elsewhere = Settings { collection: "others".into(), ..server.settings() };
    let error = connect(elsewhere).await.expect_err("there is only one");
    assert_eq!(error.class(), Class::Halt, "{}", chain(&error));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_was_made_by_somebody_else_is_refused() {
    let mut server = Server::start(None);
    let client = connect(server.settings()).await.expect("connects");
    let payload = Stamped { record: sample::record(1), stamps: vec![1] }.to_payload().expect("can be written");
    let fingerprint = |n: u64| point::bits(sample::record(n).image.fingerprints.upright());
    let insert = async |id: u64, n: u64, mode: UpdateMode| {
        let vectors = point::named([(FINGERPRINT.to_owned(), fingerprint(n))]);
        let point =
            PointStruct { id: Some(point_id(sample::id(id))), payload: payload.clone(), vectors: Some(vectors) };
        client.client.upsert_points(UpsertPointsBuilder::new(COLLECTION, vec![point]).update_mode(mode)).await
    };
    insert(2, 1, UpdateMode::InsertOnly).await.expect_err("the record is of another image");
    insert(1, 2, UpdateMode::InsertOnly).await.expect_err("the fingerprint is of another image");
    insert(1, 1, UpdateMode::Upsert).await.expect_err("could write over another");
    insert(1, 1, UpdateMode::InsertOnly).await.expect("is whole");
    let delete = ::qdrant_client::qdrant::DeletePointsBuilder::new(COLLECTION);
    client.client.delete_points(delete).await.expect_err("is not served");
    server.stop().await;
}
