//! An S3 server for tests: a real one (SeaweedFS), on free ports, with a store that goes with it.
//!
//! Takes    the binary that `tools/setup s3` puts into `.tools/bin`; `DIH_TOOLS` names another folder of tools.
//! Gives    two ways to it, plain and by TLS, for one account, which may make buckets. The server is killed when the value
//!          is dropped.
//! Weak at  its parts cannot be told to take any free port: somebody else may be given one between our look and its
//!          start. Then it does not listen, and another set of ports is tried.

use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use dih_core::Secret;
use serde_json::json;
use tempfile::TempDir;

use super::{fail, tool};
use crate::s3::Options;

/// Longest wait for a server to listen; it is four servers in one, and elects a leader first.
const START: Duration = Duration::from_secs(40);
const TRIES: usize = 3;
/// Master, volume, filer and S3, each by HTTP and by gRPC.
const PARTS: [&str; 4] = ["master", "volume", "filer", "s3"];
/// Those of its parts, and S3 by TLS.
const PORTS: usize = 2 * PARTS.len() + 1;
const CERTIFICATE: &str = "certificate.pem";
const ACCESS_KEY_ID: &str = "dih-test";
const SECRET: &str = "dih-test-secret";

/// See the head of this file.
#[derive(Debug)]
pub struct WeedServer {
    child: Child,
    ports: [u16; PORTS],
    /// Store, log and accounts.
    directory: TempDir,
}

impl WeedServer {
    /// Starts a server and waits until it takes a request.
    pub async fn start() -> Self {
        for _ in 0..TRIES {
            let mut server = Self::spawn();
            if server.listens().await {
                return server;
            }
            eprintln!("weed did not listen: {}", server.log());
        }
        fail("weed did not start".into())
    }

    /// Where it is and who may use it: a bucket that nobody has made yet.
    pub fn options(&self, bucket: &str) -> Options {
        Options {
            endpoint: self.url().parse().expect("an endpoint"),
            bucket: bucket.into(),
            prefix: String::new(),
            region: "us-east-1".into(),
            access_key_id: ACCESS_KEY_ID.into(),
            secret: Secret::new(SECRET),
            path_style: true,
            ca_file: None,
            timeout: Duration::from_secs(20),
            retry_for: Duration::from_secs(20),
        }
    }

    /// As [`WeedServer::options`], by TLS with a certificate that no system knows.
    pub fn tls_options(&self, bucket: &str) -> Options {
        let url = format!("https://127.0.0.1:{}", self.ports[PORTS - 1]);
        let ca_file = Some(self.directory.path().join(CERTIFICATE));
        Options { endpoint: url.parse().expect("an endpoint"), ca_file, ..self.options(bucket) }
    }

    /// Where it listens: `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[PORTS - 3])
    }

    /// Of its process, for a test that stops it for a while.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it, as a power cut would.
    pub fn kill(&mut self) {
        // It may have died already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What the server has written, for a failing test to print.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("weed.log")).unwrap_or_default()
    }

    fn spawn() -> Self {
        let directory = tempfile::Builder::new().prefix("dih-weed-").tempdir().expect("a temporary folder can be made");
        let accounts = json!({ "identities": [{
            "name": "dih",
            "credentials": [{ "accessKey": ACCESS_KEY_ID, "secretKey": SECRET }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }] });
        let file = |name: &str| directory.path().join(name);
        fs::write(file("accounts.json"), accounts.to_string()).expect("its accounts can be written");
        let (certificate, key) = super::certificate();
        fs::write(file(CERTIFICATE), certificate).expect("its certificate can be written");
        fs::write(file("key.pem"), key).expect("its key can be written");
        fs::create_dir(file("data")).expect("its store can be made");
        let log = File::create(file("weed.log")).expect("its log can be made");
        let ports = free_ports();
        let child = Command::new(tool("weed"))
            .args(["-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"])
            .args(["-volume.max=50", "-master.volumeSizeLimitMB=256", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"])
            .args(PARTS.iter().zip(ports.chunks(2)).flat_map(|(part, ports)| {
                [format!("-{part}.port={}", ports[0]), format!("-{part}.port.grpc={}", ports[1])]
            }))
            .arg(format!("-s3.port.https={}", ports[PORTS - 1]))
            .arg(format!("-s3.cert.file={}", file(CERTIFICATE).display()))
            .arg(format!("-s3.key.file={}", file("key.pem").display()))
            .arg(format!("-dir={}", file("data").display()))
            .arg(format!("-s3.config={}", file("accounts.json").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("weed can be started");
        Self { child, ports, directory }
    }

    /// Waits until a bucket can be asked for, which is later than that somebody listens.
    async fn listens(&mut self) -> bool {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            if crate::s3::bucket::exists(&self.options("no-such-bucket")).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

impl Drop for WeedServer {
    fn drop(&mut self) {
        self.kill();
        // It leaves its local sockets beside our folder, named by its ports.
        let named = |name: &str| self.ports.iter().any(|port| name.ends_with(&format!("-{port}.sock")));
        for file in fs::read_dir("/tmp").into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with("seaweedfs-") && named(&name) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

/// Ports that nobody listens on now. All are held until all are found, so no two are the same.
fn free_ports() -> [u16; PORTS] {
    let held = [(); PORTS].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|port| port.local_addr().expect("it is bound").port())
}
