//! What the tests across crates share: where things are, and a world to run the real binary in.

pub mod fleet;
mod paths;
mod photos;
mod world;

pub use paths::{dih_binary, make_by_python, readers_python, repository, shared_data, tools};
pub use photos::{Photo, clothing, write_csv};
pub use world::{Verdict, World};
