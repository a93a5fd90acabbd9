//! A home of its own for the real binary, with the real broker, index and models. Ends with the test, unless the variable
//! DIH_TEST_KEEP is set: then the folder stays, to be looked into.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{dih_binary, tools};

/// One line of `dih verdicts --json`.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub upload: u64,
    pub source: String,
    pub image: String,
    pub verdict: String,
    pub reason: String,
    pub of_source: Option<String>,
    pub label: String,
    pub json: Value,
}

#[derive(Debug)]
pub struct World {
    home: tempfile::TempDir,
    binary: PathBuf,
    tools: PathBuf,
}

impl World {
    pub fn new() -> Result<Self> {
        let keep = std::env::var_os("DIH_TEST_KEEP").is_some();
        let home = tempfile::Builder::new().prefix("dih-test-").disable_cleanup(keep).tempdir()?;
        Ok(Self { home, binary: dih_binary()?, tools: tools()? })
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// `dih ARGS… --home HOME`, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).arg("--home").arg(self.home());
        command.env("DIH_TOOLS", &self.tools).env_remove("DIH_HOME").env_remove("DIH_CONFIG");
        command.stdin(Stdio::null());
        if self.trusted().exists() {
            command.env("SSL_CERT_FILE", self.trusted());
        }
        command
    }

    /// Certificates that the processes of this home trust in place of the system's, once the file is there.
    pub fn trusted(&self) -> PathBuf {
        self.home().join("trusted.pem")
    }

    pub fn try_run(&self, args: &[&str]) -> Result<Output> {
        self.command(args).output().with_context(|| format!("dih {}", args.join(" ")))
    }

    /// Runs to the end and gives its standard output; any other exit than 0 is an error that shows both outputs.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.try_run(args)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            bail!("dih {} ended with {}\n{out}\n{err}", args.join(" "), output.status);
        }
        Ok(text(&output.stdout))
    }

    pub fn run_json(&self, args: &[&str]) -> Result<Value> {
        let out = self.run(args)?;
        serde_json::from_str(&out).with_context(|| format!("dih {} printed no JSON: {out}", args.join(" ")))
    }

    /// Starts it in a process group of its own, to be killed.
    pub fn start(&self, args: &[&str]) -> Result<Child> {
        let log = std::fs::File::options().create(true).append(true).open(self.home().join("started.log"))?;
        let mut command = self.command(args);
        command.stdout(log.try_clone()?).stderr(log);
        Ok(command.spawn()?)
    }

    /// The answer to GET /ready, where the started process says that it listens.
    pub fn ready(&self) -> Result<String> {
        let log = std::fs::read_to_string(self.home().join("started.log"))?;
        let address =
            log.split("answering http://").nth(1).and_then(|rest| rest.split('/').next()).context("not yet")?;
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    pub fn verdicts(&self) -> Result<Vec<Verdict>> {
        let out = self.run(&["verdicts", "--json"])?;
        out.lines().map(|line| parse(serde_json::from_str(line)?)).collect()
    }

    /// Audits, and fails unless nothing is missing, in flight or answered twice.
    pub fn audit_is_clean(&self, uploads: u64) -> Result<Value> {
        let audit = self.run_json(&["audit", "--json"])?;
        let empty = |key: &str| audit[key].as_array().is_some_and(Vec::is_empty);
        let clean = audit["uploads"] == uploads && audit["answered"] == uploads && audit["in_flight"] == 0;
        if !clean || !empty("missing") || !empty("twice") {
            bail!("the ledger of {uploads} uploads is not clean: {audit}");
        }
        Ok(audit)
    }

    /// `image -> (label, split)` of a version, as its Parquet export holds it, by the readers' Python.
    pub fn members(&self, version: &str) -> Result<Vec<(String, String, String)>> {
        let out = self.home().join(format!("export-{}", version.replace('@', "-")));
        let out_arg = out.to_string_lossy();
        self.run(&["datasets", "export", version, "--format", "parquet", &out_arg])?;
        let script = "import sys, pyarrow.parquet as q\n\
             t = q.read_table(sys.argv[1], columns=['image', 'label', 'split']).to_pylist()\n\
             print('\\n'.join(f\"{r['image']}\\t{r['label']}\\t{r['split']}\" for r in t))";
        let python =
            Command::new(crate::readers_python()?).args(["-c", script]).arg(out.join("manifest.parquet")).output()?;
        if !python.status.success() {
            bail!("pyarrow could not read the manifest: {}", String::from_utf8_lossy(&python.stderr));
        }
        std::fs::remove_dir_all(&out)?;
        let text = String::from_utf8(python.stdout)?;
        let row = |line: &str| {
            let mut cells = line.split('\t').map(str::to_owned);
            Some((cells.next()?, cells.next()?, cells.next()?))
        };
        Ok(text.lines().filter_map(row).collect())
    }
}

fn parse(json: Value) -> Result<Verdict> {
    let text = |key: &str| json[key].as_str().map(str::to_owned);
    Ok(Verdict {
        upload: json["upload"].as_u64().with_context(|| format!("a verdict without upload: {json}"))?,
        source: text("source").unwrap_or_default(),
        image: text("image").unwrap_or_default(),
        verdict: text("verdict").with_context(|| format!("an upload without verdict: {json}"))?,
        reason: text("reason").unwrap_or_default(),
        of_source: text("of_source"),
        label: text("label").unwrap_or_default(),
        json,
    })
}
