//! Adapters of the ports: blobs in a directory or a bucket, the index in Qdrant Edge, small state in NATS key-value, and a
//! fake of each in memory.
//!
//! Takes    a place: a directory, a client.
//! Gives    the ports of [`dih_core::ports`]; only this crate knows Qdrant and object stores.
//! Promise  adapter and fake of a port pass the same suite of [`contract`] (feature `contract`).
//! Errors   are [`dih_core::ports::StoreError`]: what later may be better, what a person must change, what is unreadable.

pub mod blob;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod devices;
mod fault;
pub mod index;
pub mod metered;
#[cfg(feature = "s3")]
pub mod s3;
pub mod state;
