//! Keys of users of a broker, made here and nowhere else.

use dih_core::{Secret, device::Keys};
use nkeys::KeyPair;

use super::BrokerError;
use crate::error::{Cause, told};

/// Cost of the hash of a password of 160 random bits, which nobody guesses: each connection over MQTT pays it.
const BCRYPT_COST: u32 = 6;
const PASSWORD_BYTES: usize = 20;

/// What a device is given, once.
#[derive(Clone, Debug)]
pub struct Given {
    /// Seed of its NATS user, `SU…`.
    pub seed: Secret,
    /// Its password over MQTT.
    pub password: Secret,
}

/// New keys of a device: what it is given, and what the registry keeps.
pub fn make() -> Result<(Given, Keys), BrokerError> {
    try_make().map_err(|source| BrokerError::MakeKeys { source })
}

fn try_make() -> Result<(Given, Keys), Cause> {
    let pair = KeyPair::new_user();
    let password = data_encoding::BASE32_NOPAD.encode(&rand::random::<[u8; PASSWORD_BYTES]>()).to_lowercase();
    let hash = bcrypt::non_truncating_hash_with_result(&password, BCRYPT_COST).map_err(told)?;
    let keys = Keys { nkey: pair.public_key(), password_hash: hash.format_for_version(bcrypt::Version::TwoA) };
    let seed = Secret::new(pair.seed().map_err(told)?);
    Ok((Given { seed, password: Secret::new(password) }, keys))
}

/// The public half of a seed.
pub(super) fn public(seed: &Secret) -> Result<String, Cause> {
    Ok(KeyPair::from_seed(seed.expose()).map_err(told)?.public_key())
}

pub(super) fn seed() -> Result<Secret, Cause> {
    Ok(Secret::new(KeyPair::new_user().seed().map_err(told)?))
}
