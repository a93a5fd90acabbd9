//! A nats-server for tests: a real one, with JetStream, on a free port, with a store that goes with it.
//!
//! Takes    the binary that `make setup` puts into `.tools/bin`; `DIH_TOOLS` names another folder of tools.
//! Gives    an address, and clients. The server is killed when the value is dropped.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use async_nats::{Client, jetstream};
use dih_core::topology::STATE_BUCKET;
use serde::Deserialize;
use tempfile::TempDir;

use super::tool;

/// Longest wait for a server to listen.
const START: Duration = Duration::from_secs(20);

/// See the head of this file.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    url: String,
    /// Store, log and port file.
    directory: TempDir,
}

/// What the server writes about where it listens.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl NatsServer {
    /// Starts a server and waits until it listens.
    pub async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("dih-nats-").tempdir().expect("a temporary folder can be made");
        let log = File::create(directory.path().join("stderr.log")).expect("its log can be made");
        let child = Command::new(tool("nats-server"))
            .args(["--jetstream", "--addr", "127.0.0.1", "--port", "-1", "--store_dir"])
            .arg(directory.path().join("store"))
            .arg("--ports_file_dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server can be started");
        let mut server = Self { child, url: String::new(), directory };
        let deadline = Instant::now() + START;
        while server.url.is_empty() {
            assert!(Instant::now() < deadline, "nats-server did not listen: {}", server.log());
            server.url = server.ports().and_then(|ports| ports.nats.into_iter().next()).unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    /// Where it listens: `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A new connection.
    pub async fn client(&self) -> Client {
        async_nats::connect(&self.url).await.expect("the server listens")
    }

    /// Makes the bucket of the small state, or makes it anew, as `dih setup` does on a fresh broker.
    pub async fn fresh_state(&self) -> Client {
        let client = self.client().await;
        let context = jetstream::new(client.clone());
        // It may not be there yet; then there is nothing to delete.
        let _ = context.delete_key_value(STATE_BUCKET).await;
        let bucket = jetstream::kv::Config { bucket: STATE_BUCKET.into(), history: 1, ..Default::default() };
        context.create_key_value(bucket).await.expect("a bucket can be made");
        client
    }

    /// What the server has written, for a failing test to print.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr.log")).unwrap_or_default()
    }

    fn ports(&self) -> Option<Ports> {
        let files = fs::read_dir(self.directory.path()).ok()?;
        let file = files.flatten().map(|f| f.path()).find(|p| p.extension().is_some_and(|e| e == "ports"))?;
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have died already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
