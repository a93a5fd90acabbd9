//! The way to the broker, for every command.
//!
//! Takes    the home and the configuration. Gives a connection to a broker that is set up as this version needs it: the
//!          one that is named, or an embedded one, which is started if none runs in this home.
//! Crash    the embedded broker ends some time after its last user, whatever ends that one.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dih_core::{
    Millis,
    device::Quota,
    event::Upload,
    ports::{Blobs, Quotas, SmallState},
    topology::QUOTA_BUCKET,
};
use dih_runner::{
    Access, ConnectOptions, Connection,
    broker::{self, Broker, Tls},
    jobs::{self, Done},
    submit::{Receipt, Submitter},
    topology::{self, TopologyError},
};
use dih_stores::{
    devices::{HourlyQuotas, Registry},
    state::KvState,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    config::{self, Config},
    home::Home,
    model::MAKE_SETUP,
    parts,
    problem::Problem,
    secret,
};

/// Where `make setup` puts the broker's program, below the tools folder.
const SERVER_FILE: &str = "bin/nats-server";
/// Holds the password of a named broker, where no file does.
const PASSWORD_VARIABLE: &str = "DIH_BROKER_PASSWORD";

#[derive(Debug)]
pub struct Bus {
    connection: Connection,
    submitter: Submitter,
    /// Keeps the embedded broker running.
    embedded: Option<Broker>,
}

impl Bus {
    /// Connects; starts the embedded broker if none is named and none runs, and sets it up.
    pub async fn attach(home: &Home, config: &Config) -> anyhow::Result<Self> {
        let bus = Self::connect(home, config).await?;
        let options = options(&config.broker);
        match topology::check(&bus.connection, &options).await {
            Ok(()) => {}
            // Ours alone: bringing it up to date is no business of anybody else.
            Err(TopologyError::Differs(_)) if bus.embedded.is_some() => {
                topology::setup(&bus.connection, &options).await?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(bus)
    }

    /// Connects to a broker as it is.
    pub async fn connect(home: &Home, config: &Config) -> anyhow::Result<Self> {
        let embedded = match &config.broker.url {
            Some(_) => None,
            None => {
                let broker = &config.broker;
                Some(Broker::attach(home.root(), &server(broker)?, &listeners(&broker.devices)).await?)
            }
        };
        let url = embedded.as_ref().map(Broker::url).or(config.broker.url.as_deref()).unwrap_or_default();
        let access = match &embedded {
            Some(broker) => broker.access().clone(),
            None => access(&config.broker)?,
        };
        let ca_file = config.broker.ca_file.clone();
        let options = ConnectOptions { access, ca_file, ..ConnectOptions::default() };
        let connection = Connection::connect(url, options).await?;
        let blobs = parts::blobs(home, &config.stores)?;
        let submitter = Submitter::new(connection.clone(), Some(blobs));
        Ok(Self { connection, submitter, embedded })
    }

    /// Makes what streams, consumers and buckets are missing.
    pub async fn set_up(&self, config: &config::Broker) -> anyhow::Result<()> {
        Ok(topology::setup(&self.connection, &options(config)).await?)
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The embedded broker; None where another one is named.
    pub fn embedded(&self) -> Option<&Broker> {
        self.embedded.as_ref()
    }

    pub async fn state(&self) -> anyhow::Result<Arc<dyn SmallState>> {
        Ok(Arc::new(KvState::open(self.connection.client().clone()).await?))
    }

    pub async fn registry(&self) -> anyhow::Result<Registry> {
        Ok(Registry::new(self.state().await?))
    }

    /// Counts what devices send; `general` is for those that have no quota of their own.
    pub async fn quotas(&self, general: Quota) -> anyhow::Result<Arc<dyn Quotas>> {
        let taken = KvState::open_bucket(self.connection.client().clone(), QUOTA_BUCKET).await?;
        Ok(Arc::new(HourlyQuotas::new(self.registry().await?, Arc::new(taken), general)))
    }

    pub fn blobs(&self, app: &App<'_>) -> anyhow::Result<Arc<dyn Blobs>> {
        parts::blobs(&app.home()?, &app.config.stores)
    }

    /// Sends one upload; the broker drops a second one of the same `name` within an hour.
    pub async fn submit(&self, upload: Upload, name: &str) -> anyhow::Result<Receipt> {
        Ok(self.submitter.submit((upload, Some(name.to_owned()))).await?)
    }

    /// Sends many uploads, see [`Submitter::submit_all`].
    pub fn submitter(&self) -> &Submitter {
        &self.submitter
    }

    /// Waits for what comes of a request; a request that cannot be served is an error with its reason.
    pub async fn answer(&self, request: &str) -> anyhow::Result<Done> {
        match jobs::wait_for(&self.connection, request, CancellationToken::new()).await? {
            Some(Done::Failed(failed)) => Err(Problem::new(failed.reason, "").into()),
            Some(done) => Ok(done),
            None => anyhow::bail!("nobody waits any more for request {request}"),
        }
    }
}

/// An id that no other request has.
pub fn request_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{:x}-{:x}-{:x}", Millis::now().0, std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The program of the embedded broker.
pub fn server(broker: &config::Broker) -> anyhow::Result<PathBuf> {
    let found = || dih_inference::tools_dir().map(|tools| tools.join(SERVER_FILE));
    let server = broker.nats_server.clone().or_else(found).unwrap_or_else(|| Path::new(".tools").join(SERVER_FILE));
    match server.is_file() {
        true => Ok(server),
        false => Err(Problem::new(format!("there is no `nats-server` at `{}`", server.display()), MAKE_SETUP).into()),
    }
}

fn options(broker: &config::Broker) -> topology::Options {
    topology::Options {
        replicas: broker.replicas,
        lease: broker.lease.0,
        bytes_max: broker.bytes_max.by_stream(),
        sites: broker.sites.clone(),
        ..topology::Options::default()
    }
}

fn listeners(devices: &config::Devices) -> broker::Options {
    // The server runs in a folder of its own.
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let tls = devices.cert_file.as_ref().zip(devices.key_file.as_ref());
    let tls = tls.map(|(cert, key)| Tls { cert_file: absolute(cert), key_file: absolute(key) });
    broker::Options { listen: devices.listen, mqtt: devices.mqtt, tls }
}

fn access(broker: &config::Broker) -> anyhow::Result<Access> {
    if let Some(path) = &broker.creds_file {
        return Ok(Access::CredsFile(path.clone()));
    }
    if let Some(path) = &broker.nkey_file {
        let place = secret::Place { file: Some(path), setting: "broker.nkey_file", variable: "" };
        return Ok(Access::Nkey(place.read("seed of the broker's user")?));
    }
    let Some(user) = &broker.user else { return Ok(Access::Open) };
    let place = secret::Place {
        file: broker.password_file.as_deref(),
        setting: "broker.password_file",
        variable: PASSWORD_VARIABLE,
    };
    Ok(Access::Password { user: user.clone(), password: place.read(&format!("password of `{user}`"))? })
}
