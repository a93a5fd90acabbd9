//! From delivery to acknowledgement, the same for every stage; and everything else that is asked of the broker.
//!
//! - [`Connection`] and [`broker`]: the way to a broker, and one of our own where none runs.
//! - [`topology`]: makes and checks streams, consumers and buckets.
//! - [`Runner`]: the loop that feeds a [`dih_core::Stage`].
//! - [`submit`], [`jobs`]: what goes in. [`ledger`], [`audit`], [`dead`], [`idle`]: what came of it.
//!
//! The order is always: write, commit, publish (confirmed), acknowledge (confirmed). An acknowledgement proves nothing;
//! writes that may be done twice do.

mod arrival;
pub mod audit;
pub mod broker;
mod config;
mod connection;
pub mod dead;
mod error;
pub mod failpoint;
pub mod gauges;
pub mod health;
pub mod idle;
mod input;
pub mod jobs;
pub mod ledger;
pub mod links;
mod outgoing;
mod publish;
mod run;
mod scan;
pub mod submit;
mod told;
pub mod topology;
mod trace;
mod trouble;

pub use arrival::Arrival;
pub use audit::{Audit, audit};
pub use broker::{Broker, BrokerError};
pub use config::RunnerConfig;
pub use connection::{Access, ConnectError, ConnectOptions, Connection};
pub use error::BusError;
pub use health::Health;
pub use input::{Death, Input};
pub use run::{Line, RunError, Runner};
pub use submit::{Receipt, SubmitError, Submitter};
pub use topology::TopologyError;
