//! The `nats-server` process: its configuration, and whether it answers.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{Options, PAYLOAD_BYTES_MAX, SYNC_INTERVAL, Tls, accounts::accounts, files::Files};

pub(super) const CONFIG: &str = "nats.conf";
pub(super) const DEVICES: &str = "devices.conf";
/// Folder of a server's streams before there were accounts, and since.
const STREAMS_BEFORE: &str = "jetstream/jetstream/$G";
const STREAMS: &str = "jetstream/jetstream/HUB";
pub(super) const PORT: &str = "port";
pub(super) const PORT_BEFORE: &str = "port.before";
pub(super) const PID: &str = "nats.pid";

/// Tells our server from one that happens to listen on a port we remember.
pub(super) fn server_name(files: &Files) -> String {
    let hash = Sha256::digest(files.home().as_os_str().as_encoded_bytes());
    format!("dih-{}", HEXLOWER.encode(&hash[..8]))
}

/// `hub` is the public key of its user.
pub(super) fn config(files: &Files, listen: SocketAddr, options: &Options, hub: &str) -> String {
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let (name, store, pid) = (server_name(files), quoted(&files.path("jetstream")), quoted(&files.path(PID)));
    let tls = options.tls.as_ref().map(|Tls { cert_file, key_file }| {
        // Small devices take seconds for a handshake; who wants it first is not asked to go on in plain text before.
        let (cert, key) = (quoted(cert_file), quoted(key_file));
        format!("tls {{ cert_file: {cert}, key_file: {key}, timeout: 10, handshake_first: auto }}\n")
    });
    let tls = tls.unwrap_or_default();
    let mqtt = options.mqtt.map(|at| format!("mqtt {{\n  listen: \"{at}\"\n  {tls}}}\n")).unwrap_or_default();
    let accounts = accounts(hub, DEVICES);
    format!(
        "# Written by dih at every start; changes are lost.\n\
         server_name: {name}\n\
         listen: \"{listen}\"\n\
         max_payload: {PAYLOAD_BYTES_MAX}\n\
         pid_file: {pid}\n\
         jetstream {{\n  store_dir: {store}\n  sync_interval: {SYNC_INTERVAL}\n}}\n\
         {tls}{mqtt}{accounts}"
    )
}

/// Streams of a home of before there were accounts belong to the hub's.
pub(super) fn adopt_streams(files: &Files) {
    let (before, now) = (files.path(STREAMS_BEFORE), files.path(STREAMS));
    if before.is_dir() && !now.exists() {
        let _ = std::fs::rename(before, now);
    }
}

/// Where to listen: as wanted, else on loopback only.
pub(super) fn listen_at(options: &Options, before: Option<u16>) -> std::io::Result<SocketAddr> {
    match options.listen {
        Some(wanted) => Ok(wanted),
        None => Ok((Ipv4Addr::LOCALHOST, free_port(before)?).into()),
    }
}

/// The port of last time if it is free, so that whoever is connected finds back; else any free one.
fn free_port(before: Option<u16>) -> std::io::Result<u16> {
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

/// Whether a server that was asked to read its configuration anew has done so, by what it logged since.
pub(super) fn reloaded(log: &str) -> Option<Result<(), String>> {
    log.lines().find_map(|line| match line.split_once("Failed to reload server configuration: ") {
        Some((_, words)) => Some(Err(words.to_owned())),
        None => line.contains("Reloaded server configuration").then_some(Ok(())),
    })
}

/// The first line a server sends.
async fn hello(port: u16) -> Option<String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.ok()?;
    Some(line)
}
