//! The way to the broker.
//!
//! Takes    a URL and who we are. Gives one [`Connection`], cheap to clone, that finds back by itself after an outage.
//! Weak at  a password changed while we run shows only as an outage, in the log.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::{
    Client, ConnectErrorKind, Event,
    jetstream::{self, context::ContextBuilder},
};
use dih_core::{Class, Classify, Secret};

use crate::error::{Cause, told};

/// Who we are to the broker.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// A broker that asks nobody.
    #[default]
    Open,
    /// Seed of a NATS user, `SU…`.
    Nkey(Secret),
    Password {
        user: String,
        password: Secret,
    },
    Token(Secret),
    /// A NATS `.creds` file (JWT and nkey).
    CredsFile(PathBuf),
}

#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Shown by the broker's monitoring.
    pub name: String,
    pub access: Access,
    /// PEM file of certificates to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Longest wait for the first connection.
    pub timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { name: "dih".to_owned(), access: Access::Open, ca_file: None, timeout: Duration::from_secs(5) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("could not read the credentials file `{}`", path.display())]
    Credentials { path: PathBuf, source: std::io::Error },
    #[error(
        "the broker at {url} refuses our name or password; check `broker.user` and its password, or `broker.nkey_file`"
    )]
    Denied { url: String, source: Cause },
    #[error("no broker answers at {url}; start one, or correct `broker.url`")]
    Unreachable { url: String, source: Cause },
    #[error("`{url}` is no address of a broker; write for example `nats://127.0.0.1:4222`")]
    Url { url: String, source: Cause },
}

impl Classify for ConnectError {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } => Class::Retry,
            Self::Credentials { .. } | Self::Denied { .. } | Self::Url { .. } => Class::Halt,
        }
    }
}

/// Publish acknowledgements that may be awaited at once; more wait for a place.
const ACKS_IN_FLIGHT_MAX: usize = 4096;

/// A live connection. Clones share it.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    jetstream: jetstream::Context,
    url: String,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("url", &self.url).field("state", &self.client.connection_state()).finish()
    }
}

impl Connection {
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<Self, ConnectError> {
        let shown = without_password(url);
        let builder = async_nats::ConnectOptions::new()
            .name(&options.name)
            .connection_timeout(options.timeout)
            .reconnect_delay_callback(|attempt| Duration::from_millis(100 << attempt.min(5)))
            .event_callback(tell);
        let builder = match options.ca_file {
            Some(path) => builder.add_root_certificates(path),
            None => builder,
        };
        let client = with_access(builder, options.access).await?.connect(url).await;
        let client = client.map_err(|source| match source.kind() {
            ConnectErrorKind::ServerParse => ConnectError::Url { url: shown.clone(), source: told(source) },
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                ConnectError::Denied { url: shown.clone(), source: told(source) }
            }
            _ => ConnectError::Unreachable { url: shown.clone(), source: told(source) },
        })?;
        let jetstream = ContextBuilder::new().max_ack_inflight(ACKS_IN_FLIGHT_MAX).build(client.clone());
        Ok(Self { client, jetstream, url: shown })
    }

    /// For adapters of other ports on the same broker, such as the small state.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Without its password.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Largest message the broker takes, in bytes, headers included.
    pub fn payload_bytes_max(&self) -> usize {
        self.client.max_payload()
    }
}

async fn with_access(
    builder: async_nats::ConnectOptions,
    access: Access,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    Ok(match access {
        Access::Open => builder,
        Access::Nkey(seed) => builder.nkey(seed.expose().to_owned()),
        Access::Password { user, password } => builder.user_and_password(user, password.expose().to_owned()),
        Access::Token(token) => builder.token(token.expose().to_owned()),
        Access::CredsFile(path) => {
            let read = builder.credentials_file(&path).await;
            read.map_err(|source| ConnectError::Credentials { path, source })?
        }
    })
}

async fn tell(event: Event) {
    match event {
        Event::Connected => tracing::info!("connected to the broker"),
        Event::Disconnected => tracing::warn!("lost the broker, will reconnect"),
        Event::SlowConsumer(subscription) => tracing::warn!(subscription, "a subscription is not read fast enough"),
        Event::LameDuckMode => tracing::info!("the broker is about to stop"),
        Event::Draining | Event::Closed => tracing::debug!(%event, "connection to the broker ends"),
        event => tracing::warn!(%event, "the broker or the way to it has a problem"),
    }
}

/// `nats://user:secret@host` -> `nats://user@host`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split_once(':').map_or(login, |(user, _)| user);
            format!("{scheme}://{user}@{host}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_print() {
        let access = Access::Password { user: "svc".into(), password: Secret::new("hunter2") };
        assert!(!format!("{access:?}").contains("hunter2"));
        assert_eq!(without_password("nats://svc:hunter2@host:4222"), "nats://svc@host:4222");
        assert_eq!(without_password("nats://host:4222"), "nats://host:4222");
    }

    #[tokio::test]
    async fn a_missing_broker_is_named_with_the_remedy() {
        let error = Connection::connect("nats://127.0.0.1:9", ConnectOptions::default()).await.expect_err("port 9");
        assert!(error.to_string().contains("no broker answers at nats://127.0.0.1:9"), "{error}");
        assert_eq!(error.class(), Class::Retry);
    }
}
