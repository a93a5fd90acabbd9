//! A broker of its own that can be killed and started again on what it had stored.

use std::{
    fs::{self, File},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use dih_tests::tools;
use tempfile::TempDir;

const START_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    address: SocketAddr,
    /// Store, logs and port file.
    directory: TempDir,
}

impl Broker {
    pub(crate) fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("dih-broker-").tempdir()?;
        let (child, address) = spawn(&directory)?;
        Ok(Self { child, address, directory })
    }

    /// It may have another address.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        (self.child, self.address) = spawn(&self.directory)?;
        Ok(())
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have died already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &TempDir) -> Result<(Child, SocketAddr)> {
    let (folder, ports) = (directory.path(), directory.path().join("ports"));
    let _ = fs::remove_dir_all(&ports);
    fs::create_dir(&ports)?;
    let log = File::options().create(true).append(true).open(folder.join("broker.log"))?;
    let mut child = Command::new(tools()?.join("bin/nats-server"))
        .args(["--jetstream", "--addr", "127.0.0.1", "--port", "-1", "--store_dir"])
        .arg(folder.join("store"))
        .arg("--ports_file_dir")
        .arg(&ports)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let begun = Instant::now();
    loop {
        let told = fs::read_dir(&ports)?.flatten().next().and_then(|file| fs::read(file.path()).ok());
        if let Some(told) = told.and_then(|told| serde_json::from_slice::<serde_json::Value>(&told).ok()) {
            let url = told["nats"][0].as_str().context("the port file names an address")?;
            return Ok((child, url.trim_start_matches("nats://").parse()?));
        }
        if begun.elapsed() > START_MAX {
            let _ = child.kill();
            bail!("the broker did not start: {}", fs::read_to_string(folder.join("broker.log"))?);
        }
        sleep(Duration::from_millis(10));
    }
}
