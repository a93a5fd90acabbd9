//! Blobs in a bucket of a throw-away S3 server.

use std::fs;

use anyhow::Result;
use dih_stores::contract::weed::WeedServer;
use dih_tests::World;

pub(crate) const SECRET_FILE: &str = "s3-secret";

/// The section of a configuration that has this home keep its blobs in a bucket.
pub(crate) fn section(world: &World, server: &WeedServer, bucket: &str) -> Result<String> {
    let options = server.options(bucket);
    let secret = world.home().join(SECRET_FILE);
    fs::write(&secret, format!("{}\n", options.secret.expose()))?;
    Ok(format!(
        "[stores.s3]\nendpoint = \"{}\"\nbucket = \"{bucket}\"\nprefix = \"hub/one\"\naccess_key_id = \"{}\"\n\
         secret_access_key_file = \"{}\"\n",
        options.endpoint,
        options.access_key_id,
        secret.display()
    ))
}
