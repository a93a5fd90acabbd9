//! The embedded index for many processes: it speaks as much of Qdrant's gRPC as the client beside it uses.
//!
//! Takes    an open [`EdgeIndex`] and an address, by TLS where there is a certificate. Serves until told to stop.
//! Keeps    nothing of its own: the directory is that of a single process, so a hub that outgrows it serves what it has.
//! Crash    a write is answered once it survives kill -9.
//! Promise  while it serves, nobody else writes to the index: a write in this process has no stamp, and could be undone.
//! Weak at  what no client of ours asks: other conditions, other operations and other collections are refused by name.

mod collections;
mod decline;
mod points;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use ::qdrant_client::qdrant::{
    HealthCheckReply, HealthCheckRequest, collections_server::CollectionsServer, points_server::PointsServer,
    qdrant_server,
};
use dih_core::{Secret, chain, event::VectorSpace, ports::StoreError};
use subtle::ConstantTimeEq;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use crate::{fault, index::EdgeIndex, index::STORE};

/// Name of the header that carries the key, as Qdrant has it.
const KEY_HEADER: &str = "api-key";
/// Longest time that a client may take to agree on keys.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Who may ask, and under which name.
#[derive(Clone, Debug)]
pub struct Access {
    /// None: whoever reaches the address.
    pub api_key: Option<Secret>,
    /// The one collection there is.
    pub collection: String,
}

/// How it proves who it is: the certificate, followed by those between it and its CA, and its key, both in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    pub certificates: String,
    pub key: Secret,
}

/// An address that is bound already, so that clients may come.
#[derive(Debug)]
pub struct Listener {
    incoming: TcpIncoming,
    address: SocketAddr,
    server: Server,
}

impl Listener {
    /// `address` may have port 0 for a free one. Without `tls` everything goes in plain text.
    pub fn bind(address: SocketAddr, tls: Option<&Tls>) -> Result<Self, StoreError> {
        let server = match tls {
            Some(tls) => encrypted(tls)?,
            None => Server::builder(),
        };
        let bound = TcpIncoming::bind(address).and_then(|incoming| {
            let address = incoming.local_addr()?;
            Ok(Self { incoming: incoming.with_nodelay(Some(true)), address, server })
        });
        bound.map_err(|source| StoreError::Refused {
            store: STORE,
            action: format!("listen at {address}"),
            remedy: "name a free address in `stores.served.listen`".into(),
            source: Some(Box::new(source)),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the index until `stop` is done and every request in work is answered.
    pub async fn serve(
        mut self,
        index: Arc<EdgeIndex>,
        access: Access,
        stop: impl Future<Output = ()>,
    ) -> Result<(), StoreError> {
        let served = Served { index, collection: access.collection.into() };
        let key = access.api_key;
        let gate = move |request: Request<()>| admit(request, key.as_ref());
        let server = self
            .server
            .add_service(PointsServer::with_interceptor(served.clone(), gate.clone()))
            .add_service(CollectionsServer::with_interceptor(served.clone(), gate))
            .add_service(qdrant_server::QdrantServer::new(served))
            .serve_with_incoming_shutdown(self.incoming, stop);
        server.await.map_err(|source| StoreError::Unavailable {
            store: STORE,
            action: format!("serve at {}", self.address),
            source: Box::new(source),
        })
    }
}

fn encrypted(tls: &Tls) -> Result<Server, StoreError> {
    let identity = Identity::from_pem(&tls.certificates, tls.key.expose());
    let config = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_MAX);
    Server::builder().tls_config(config).map_err(|source| StoreError::Refused {
        store: STORE,
        action: "use its certificate and key".into(),
        remedy: "name a certificate and its own key, in PEM, with `stores.served.cert_file` and `key_file`".into(),
        source: Some(Box::new(source)),
    })
}

/// All services in one.
#[derive(Clone, Debug)]
struct Served {
    index: Arc<EdgeIndex>,
    collection: Arc<str>,
}

impl Served {
    fn spaces(&self) -> &[(VectorSpace, usize)] {
        self.index.spaces()
    }

    fn check_collection(&self, name: &str) -> Result<(), Status> {
        match name == &*self.collection {
            true => Ok(()),
            false => Err(Status::not_found(format!("there is no collection `{name}`, only `{}`", self.collection))),
        }
    }
}

fn admit(request: Request<()>, key: Option<&Secret>) -> Result<Request<()>, Status> {
    let given = request.metadata().get(KEY_HEADER).map(|given| given.as_bytes());
    match key {
        // Takes as long wherever they differ, so that a key cannot be guessed letter by letter.
        Some(key) if given.is_none_or(|given| !bool::from(given.ct_eq(key.expose().as_bytes()))) => {
            Err(Status::unauthenticated("the key in `api-key` is missing or wrong"))
        }
        _ => Ok(request),
    }
}

/// What is wrong, for who asked.
fn status(error: StoreError) -> Status {
    let told = chain(&error).to_string();
    match error {
        StoreError::NotFound { .. } => Status::not_found(told),
        StoreError::Unavailable { .. } => Status::unavailable(told),
        StoreError::Refused { .. } => Status::failed_precondition(told),
        // Of one image: it is no reason for others to stop.
        StoreError::Corrupt { .. } => Status::data_loss(told),
    }
}

fn invalid(what: impl Into<String>) -> Status {
    Status::invalid_argument(what)
}

/// A point whose payload was made by somebody else.
fn foreign(what: &str) -> Status {
    status(fault::corrupt(STORE, "a point", what.to_owned()))
}

#[tonic::async_trait]
impl qdrant_server::Qdrant for Served {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckReply>, Status> {
        Ok(Response::new(HealthCheckReply {
            title: "Deep Images Hub - index".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: None,
        }))
    }
}
