//! Devices: who may send, and how much of an hour's quota each has used.
//!
//! Takes    the small state. Gives the registry, and [`Quotas`](dih_core::ports::Quotas) by what it says.
//! Keeps    `device/<device>` in the bucket of the small state; `quota/<device>/<hour>` in one of its own, which forgets.

mod hourly;
mod registry;

pub use hourly::HourlyQuotas;
pub use registry::Registry;
