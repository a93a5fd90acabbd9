//! One photo is one trace: what a collector gets of its way through all stages.

use std::{
    collections::HashMap,
    fs,
    process::Command,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};
use dih_tests::{World, fleet::until};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.0.lock().map_err(|_| Status::internal("a test panicked"))?.extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Runs all stages over a few photos, and gives all spans.
async fn spans_of(hand_over: bool) -> Result<Vec<Span>> {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    let serving = tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let world = World::new()?;
    let config = format!(
        "[telemetry]\notlp_endpoint = \"{endpoint}\"\nlog_format = \"json\"\n[runner]\nhand_over = {hand_over}\n"
    );
    fs::write(world.home().join("dih.toml"), config)?;
    let photos = world.home().join("photos/rocket");
    fs::create_dir_all(&photos)?;
    fs::copy(dih_tests::tools()?.join("photos/rocket.jpg"), photos.join("rocket.jpg"))?;
    tokio::task::spawn_blocking(move || stream_one(&world)).await??;
    serving.abort();
    let spans = collector.0.lock().map_err(|_| anyhow::anyhow!("a test panicked"))?.clone();
    Ok(spans)
}

/// Once all stages are there: who is not yet is handed nothing.
fn stream_one(world: &World) -> Result<()> {
    let mut hub = world.start(&["run", "--listen", "127.0.0.1:0"])?;
    let streamed = until("all stages are ready", || Ok(world.ready().unwrap_or_default().contains("200 OK")))
        .and_then(|()| world.run(&["import", &world.home().join("photos").to_string_lossy()]))
        .and_then(|_| until("it is answered", || Ok(world.run_json(&["audit", "--json"])?["answered"] == 1)));
    Command::new("kill").args(["-TERM", &hub.id().to_string()]).status()?;
    hub.wait()?;
    streamed?;
    world.audit_is_clean(1).map(drop)
}

const WAY: [&str; 6] = ["ingest", "dedupe", "verify", "embed", "cluster", "organize"];

async fn a_photo_is_one_trace(hand_over: bool) -> Result<()> {
    let spans = spans_of(hand_over).await?;
    let by_name: HashMap<&str, &Span> = spans.iter().map(|span| (span.name.as_str(), span)).collect();
    let stage =
        |name: &str| by_name.get(name).copied().with_context(|| format!("no span of {name} in {:?}", by_name.keys()));
    let first = stage("ingest")?;
    for pair in WAY.windows(2) {
        let (before, after) = (stage(pair[0])?, stage(pair[1])?);
        assert_eq!(after.trace_id, first.trace_id, "{} belongs to the photo's trace", pair[1]);
        // Handed over, all stages work within the delivery of the first.
        let parent = if hand_over { first } else { before };
        assert_eq!(after.parent_span_id, parent.span_id, "{} follows from {}", pair[1], parent.name);
    }
    let stored = stage("index claim")?;
    assert_eq!((&stored.trace_id, &stored.parent_span_id), (&first.trace_id, &stage("dedupe")?.span_id));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_way_of_the_broker_a_photo_is_one_trace() -> Result<()> {
    a_photo_is_one_trace(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn handed_over_a_photo_is_one_trace() -> Result<()> {
    a_photo_is_one_trace(true).await
}
