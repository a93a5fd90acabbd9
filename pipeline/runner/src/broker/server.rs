//! The `nats-server` process: its configuration, and whether it answers.

use std::{
    fmt::Write,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{PAYLOAD_BYTES_MAX, SYNC_INTERVAL, files::Files};

pub(super) const CONFIG: &str = "nats.conf";
pub(super) const PORT: &str = "port";
pub(super) const PORT_BEFORE: &str = "port.before";
pub(super) const PID: &str = "nats.pid";

/// Tells our server from one that happens to listen on a port we remember.
pub(super) fn server_name(files: &Files) -> String {
    let hash = Sha256::digest(files.home().as_os_str().as_encoded_bytes());
    hash.iter().take(8).fold("dih-".to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

pub(super) fn config(files: &Files, port: u16) -> String {
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let (name, store, pid) = (server_name(files), quoted(&files.path("jetstream")), quoted(&files.path(PID)));
    format!(
        "# Written by dih at every start; changes are lost.\n\
         server_name: {name}\n\
         listen: \"127.0.0.1:{port}\"\n\
         max_payload: {PAYLOAD_BYTES_MAX}\n\
         pid_file: {pid}\n\
         jetstream {{\n  store_dir: {store}\n  sync_interval: {SYNC_INTERVAL}\n}}\n"
    )
}

/// The port of last time if it is free, so that whoever is connected finds back; else any free one.
pub(super) fn free_port(before: Option<u16>) -> std::io::Result<u16> {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = before.and_then(|port| free(port).ok()).map_or_else(|| free(0), Ok)?;
    Ok(listener.local_addr()?.port())
}

/// The port of this home's server, if it answers.
pub(super) async fn answering_port(files: &Files) -> Option<u16> {
    let port: u16 = files.read(PORT)?.parse().ok()?;
    let hello = timeout(Duration::from_secs(2), hello(port)).await.ok()??;
    let info: serde_json::Value = serde_json::from_str(hello.strip_prefix("INFO ")?).ok()?;
    let (name, jetstream) = (info.get("server_name")?.as_str()?, info.get("jetstream")?.as_bool()?);
    (name == server_name(files) && jetstream).then_some(port)
}

/// The first line a server sends.
async fn hello(port: u16) -> Option<String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.ok()?;
    Some(line)
}
