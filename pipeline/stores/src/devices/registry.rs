//! The registry of devices, in the small state.
//!
//! Crash    a change is one compare-and-set: done or not.

use std::sync::Arc;

use bytes::Bytes;
use dih_core::{
    DeviceId,
    device::Device,
    ports::{Entry, SmallState, StoreError},
};

use crate::fault;

const PREFIX: &str = "device/";
const STORE: &str = "registry of devices";

#[derive(Clone, Debug)]
pub struct Registry {
    state: Arc<dyn SmallState>,
}

impl Registry {
    pub fn new(state: Arc<dyn SmallState>) -> Self {
        Self { state }
    }

    pub async fn get(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        self.state.get(&key(id)).await?.map(|entry| read(id.as_str(), &entry)).transpose()
    }

    /// Sorted by name; revoked ones too.
    pub async fn all(&self) -> Result<Vec<Device>, StoreError> {
        let mut devices = Vec::new();
        for key in self.state.keys(PREFIX).await? {
            // Nobody deletes; were one gone, it would be none of all.
            if let Some(entry) = self.state.get(&key).await? {
                devices.push(read(&key, &entry)?);
            }
        }
        Ok(devices)
    }

    /// False where there is one of that name, which stays as it is.
    pub async fn add(&self, device: &Device) -> Result<bool, StoreError> {
        Ok(self.state.create(&key(&device.id), written(device)?).await?.is_some())
    }

    /// None where there is no such device; else what it is now.
    pub async fn change(&self, id: &DeviceId, change: impl Fn(&mut Device)) -> Result<Option<Device>, StoreError> {
        loop {
            let Some(entry) = self.state.get(&key(id)).await? else { return Ok(None) };
            let mut device = read(id.as_str(), &entry)?;
            change(&mut device);
            if self.state.replace(&key(id), written(&device)?, entry.revision).await?.is_some() {
                return Ok(Some(device));
            }
        }
    }
}

fn key(id: &DeviceId) -> String {
    format!("{PREFIX}{id}")
}

fn read(key: &str, entry: &Entry) -> Result<Device, StoreError> {
    serde_json::from_slice(&entry.value).map_err(|e| fault::corrupt(STORE, key, e))
}

fn written(device: &Device) -> Result<Bytes, StoreError> {
    serde_json::to_vec(device).map(Bytes::from).map_err(|e| fault::corrupt(STORE, &device.id, e))
}

#[cfg(test)]
mod tests {
    use dih_core::{
        Millis,
        device::{Keys, Quota},
    };

    use super::*;
    use crate::state::MemoryState;

    fn device(id: &str) -> Device {
        let keys = Some(Keys { nkey: "U1".into(), password_hash: "$2a$".into() });
        let id = id.parse().expect("valid");
        Device { id, keys, quota: Quota::default(), added_at: Millis(1), changed_at: Millis(1) }
    }

    #[tokio::test]
    async fn a_name_is_given_once_and_what_is_changed_stays() {
        let registry = Registry::new(Arc::new(MemoryState::default()));
        for id in ["cam2", "cam1"] {
            assert!(registry.add(&device(id)).await.expect("adds"));
        }
        assert!(!registry.add(&device("cam1")).await.expect("answers"));
        let cam1 = "cam1".parse().expect("valid");
        let revoked = registry.change(&cam1, |device| device.keys = None).await.expect("changes");
        assert_eq!(revoked.as_ref().and_then(|device| device.keys.clone()), None);
        assert_eq!(registry.get(&cam1).await.expect("reads"), revoked);
        let nobody = "cam3".parse().expect("valid");
        assert_eq!(registry.change(&nobody, |_| ()).await.expect("answers"), None);
        let names: Vec<String> = registry.all().await.expect("lists").iter().map(|d| d.id.to_string()).collect();
        assert_eq!(names, ["cam1", "cam2"]);
    }
}
