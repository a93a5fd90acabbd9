//! Quotas an hour, shared by all replicas without a request a photo.
//!
//! Takes    who sent how much, and when. Gives whether it is within the quota.
//! Keeps    of each device and hour how many of [`SHARES`] equal shares of its quota are taken; a replica takes one when it
//!          has used up what it took before.
//! Crash    what a replica had taken and not used is lost: the device may send so much less in that hour, never more.
//! Weak at  a photo that is delivered again counts again.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use dih_core::{
    DeviceId, Millis,
    config::ByteSize,
    device::{Admission, Hour, Quota},
    ports::{Quotas, SmallState, StoreError},
};
use lru::LruCache;

use super::Registry;
use crate::fault;

/// A replica that ends leaves at most one of these unused: 2 % of the quota.
const SHARES: u64 = 50;
/// So long a replica goes by what it read of a device.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// Devices that a replica remembers, some 200 bytes each.
const DEVICES: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");
/// Hours of one device: what waited long comes late.
const HOURS: usize = 4;
const STORE: &str = "quotas";

#[derive(Debug)]
pub struct HourlyQuotas {
    registry: Registry,
    taken: Arc<dyn SmallState>,
    general: Quota,
    known: Mutex<LruCache<DeviceId, Known>>,
}

/// What this replica knows of a device.
#[derive(Debug)]
struct Known {
    quota: Quota,
    read_at: Instant,
    hours: Vec<(Hour, Credit)>,
}

/// What of its shares is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Credit {
    photos: u64,
    bytes: u64,
    /// No share is left to take.
    spent: bool,
}

impl HourlyQuotas {
    /// `taken` is a bucket whose entries vanish some hours after the hour; `general` is for devices without a quota of their
    /// own.
    pub fn new(registry: Registry, taken: Arc<dyn SmallState>, general: Quota) -> Self {
        Self { registry, taken, general, known: Mutex::new(LruCache::new(DEVICES)) }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, LruCache<DeviceId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn quota(&self, device: &DeviceId) -> Result<Quota, StoreError> {
        if let Some(known) = self.known().get(device).filter(|known| known.read_at.elapsed() < KNOWN_FOR) {
            return Ok(known.quota);
        }
        let own = self.registry.get(device).await?.map(|device| device.quota).unwrap_or_default();
        let quota = own.or(self.general);
        let mut all = self.known();
        let known = all.get_or_insert_mut(device.clone(), || Known { quota, read_at: Instant::now(), hours: vec![] });
        if known.quota != quota {
            // Shares of another quota are of no use.
            known.hours.clear();
        }
        (known.quota, known.read_at) = (quota, Instant::now());
        Ok(quota)
    }

    /// Changes the credit of a device's hour; makes one where there is none.
    fn with_credit<T>(&self, device: &DeviceId, hour: Hour, quota: Quota, act: impl FnOnce(&mut Credit) -> T) -> T {
        let mut all = self.known();
        let known = all.get_or_insert_mut(device.clone(), || Known { quota, read_at: Instant::now(), hours: vec![] });
        let at = known.hours.iter().position(|(known, _)| *known == hour).unwrap_or_else(|| {
            if known.hours.len() == HOURS {
                known.hours.remove(0);
            }
            known.hours.push((hour, Credit::default()));
            known.hours.len() - 1
        });
        act(&mut known.hours[at].1)
    }

    /// Takes one share more of the hour. None when all are taken.
    async fn take(&self, device: &DeviceId, hour: Hour) -> Result<Option<u64>, StoreError> {
        let key = format!("quota/{device}/{}", hour.0);
        loop {
            let entry = self.taken.get(&key).await?;
            let before = match &entry {
                Some(entry) => number(&entry.value).ok_or_else(|| fault::corrupt(STORE, &key, "no number"))?,
                None => 0,
            };
            if before >= SHARES {
                return Ok(None);
            }
            let after = (before + 1).to_string().into();
            let won = match entry {
                Some(entry) => self.taken.replace(&key, after, entry.revision).await?,
                None => self.taken.create(&key, after).await?,
            };
            if won.is_some() {
                return Ok(Some(before));
            }
        }
    }
}

#[async_trait]
impl Quotas for HourlyQuotas {
    async fn admit(&self, device: &DeviceId, at: Millis, bytes: u64) -> Result<Admission, StoreError> {
        let quota = self.quota(device).await?;
        if quota.is_unlimited() {
            return Ok(Admission::Within);
        }
        let hour = Hour::of(at);
        loop {
            match self.with_credit(device, hour, quota, |credit| pay(credit, quota, bytes)) {
                Payment::Done => return Ok(Admission::Within),
                Payment::Never => return Ok(Admission::Over(quota)),
                Payment::Short => {}
            }
            let share = self.take(device, hour).await?;
            self.with_credit(device, hour, quota, |credit| match share {
                Some(number) => add(credit, quota, number),
                None => credit.spent = true,
            });
        }
    }
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payment {
    Done,
    /// Another share may be enough.
    Short,
    Never,
}

/// Pays for one photo, or leaves the credit as it is.
fn pay(credit: &mut Credit, quota: Quota, bytes: u64) -> Payment {
    let photos_enough = quota.photos_per_hour.is_none() || credit.photos >= 1;
    let bytes_enough = quota.bytes_per_hour.is_none() || credit.bytes >= bytes;
    match photos_enough && bytes_enough {
        true => {
            credit.photos = credit.photos.saturating_sub(1);
            credit.bytes = credit.bytes.saturating_sub(bytes);
            Payment::Done
        }
        false if credit.spent => Payment::Never,
        false => Payment::Short,
    }
}

/// Adds share `number` of [`SHARES`]; all of them together are the quota, to the last photo and byte.
fn add(credit: &mut Credit, quota: Quota, number: u64) {
    let share = |whole: u64| {
        let until = |n: u64| u64::try_from(u128::from(whole) * u128::from(n) / u128::from(SHARES)).unwrap_or(u64::MAX);
        until(number + 1) - until(number)
    };
    credit.photos = credit.photos.saturating_add(quota.photos_per_hour.map_or(0, share));
    credit.bytes = credit.bytes.saturating_add(quota.bytes_per_hour.map_or(0, |ByteSize(bytes)| share(bytes)));
}

#[cfg(test)]
mod tests {
    use dih_core::device::Device;

    use super::*;
    use crate::state::MemoryState;

    struct World {
        registry: Registry,
        taken: Arc<dyn SmallState>,
    }

    impl World {
        fn new() -> Self {
            let registry = Registry::new(Arc::new(MemoryState::default()));
            Self { registry, taken: Arc::new(MemoryState::default()) }
        }

        fn replica(&self, photos: Option<u64>, bytes: Option<u64>) -> HourlyQuotas {
            let general = Quota { photos_per_hour: photos, bytes_per_hour: bytes.map(ByteSize) };
            HourlyQuotas::new(self.registry.clone(), self.taken.clone(), general)
        }
    }

    fn cam() -> DeviceId {
        "cam1".parse().expect("valid")
    }

    /// Photos of so many bytes each that are let in, of so many that are sent at `at`.
    async fn let_in(quotas: &HourlyQuotas, sent: usize, bytes: u64, at: i64) -> usize {
        let mut within = 0;
        for _ in 0..sent {
            if quotas.admit(&cam(), Millis(at), bytes).await.expect("answers") == Admission::Within {
                within += 1;
            }
        }
        within
    }

    #[tokio::test]
    async fn no_more_photos_than_the_quota_and_again_in_the_next_hour() {
        for quota in [0, 1, 7, 50, 120] {
            let quotas = World::new().replica(Some(quota), None);
            for hour in [0, 1] {
                let within = let_in(&quotas, 200, 1_000, hour * 3_600_000).await;
                assert_eq!(within as u64, quota, "hour {hour}");
            }
        }
    }

    #[tokio::test]
    async fn no_more_bytes_than_the_quota() {
        let quotas = World::new().replica(None, Some(10_000));
        assert_eq!(let_in(&quotas, 1, 10_001, 0).await, 0, "larger than all there is");
        let quotas = World::new().replica(None, Some(10_000));
        assert_eq!(let_in(&quotas, 20, 999, 0).await, 10);
        assert_eq!(let_in(&quotas, 20, 10, 0).await, 1, "a smaller one still fits");
    }

    #[tokio::test]
    async fn replicas_share_one_quota_and_lose_little_of_it() {
        let world = World::new();
        let (one, two) = (world.replica(Some(500), None), world.replica(Some(500), None));
        let within = let_in(&one, 107, 1, 0).await + let_in(&two, 500, 1, 0).await;
        assert!((490..=500).contains(&within), "{within}: one share of 10 may lie unused at the first");
        assert_eq!(within + let_in(&one, 500, 1, 0).await, 500);
    }

    #[tokio::test]
    async fn a_device_of_its_own_quota_goes_by_it_and_others_by_the_general_one() {
        let world = World::new();
        let quota = Quota { photos_per_hour: Some(3), bytes_per_hour: None };
        let device = Device { id: cam(), keys: None, quota, added_at: Millis(0), changed_at: Millis(0) };
        world.registry.add(&device).await.expect("adds");
        assert_eq!(let_in(&world.replica(None, None), 9, 1, 0).await, 3);
        assert_eq!(let_in(&World::new().replica(None, None), 9, 1, 0).await, 9, "nobody set a limit");
    }
}
