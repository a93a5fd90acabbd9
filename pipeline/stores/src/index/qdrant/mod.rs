//! The index on a Qdrant server, or on one process of ours that speaks its protocol ([`served`]).
//!
//! Takes    an address, and the vector spaces. Gives [`Index`] to any number of processes.
//! Keeps    a point an image ([`point`]); in this process only what was read a moment ago ([`seen`]).
//! Crash    a write that was answered is in the server's log. Each write is sent again when no answer came, and changes nothing
//!          the second time.
//! Races    a change is a compare-and-set on the stamp of the last write; who was overtaken looks again. Writes to one point
//!          are put in order by its leader (`WriteOrdering::Strong`).
//! Weak at  a search is as good as the server's: approximate above some thousand points.

mod facet;
mod filter;
pub(crate) mod point;
mod schema;
mod seen;
mod send;
#[cfg(feature = "edge")]
pub mod served;
#[cfg(all(test, feature = "edge"))]
mod tests;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use ::qdrant_client::{
    Qdrant,
    qdrant::{
        CountPointsBuilder, FacetCountsBuilder, GetPointsBuilder, PayloadIncludeSelector, PointStruct, PointVectors,
        Query, QueryBatchPointsBuilder, QueryPoints, QueryPointsBuilder, RetrievedPoint, ScoredPoint, ScrollPoints,
        SetPayloadPointsBuilder, UpdateMode, UpdatePointVectorsBuilder, UpsertPointsBuilder, VectorsOutput,
        VectorsSelector, WriteOrdering, WriteOrderingType, points_selector::PointsSelectorOneOf, vector_output,
        with_payload_selector::SelectorOptions as PayloadOptions,
        with_vectors_selector::SelectorOptions as VectorsOptions,
    },
};
use async_trait::async_trait;
use dih_core::{
    ImageId, Label, Secret, UploadSeq,
    event::VectorSpace,
    image::RangeQuery,
    ports::{Among, Counted, Facet, Index, NearFingerprint, NearVector, Page, Select, StoreError},
    record::{Change, Record, State},
};
use rand::RngExt;

use self::{
    filter::Asked,
    point::{FINGERPRINT, Payload, Stamp, Stamped, field, image_id, point_id},
    seen::Seen,
    send::{failed, patiently},
};
use super::{
    COSINE_TOLERANCE, STORE, add_vote, apply, check_space, may_change, nearest_first, nearest_prints, normalised,
    not_found,
};

/// Neighbours asked for beyond those that are wanted: of equally near ones the server picks any.
const SLACK: usize = 16;
/// Times that a change may be overtaken.
const OVERTAKEN_MAX: u32 = 64;
/// Records in one answer.
const PAGE: u32 = 512;

/// How to reach the server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `http://host:6334`, or `https`.
    pub url: String,
    pub api_key: Option<Secret>,
    /// One collection is one hub.
    pub collection: String,
    /// Copies of each point in a cluster.
    pub replicas: u32,
    /// Longest wait for one answer.
    pub timeout: Duration,
}

/// See the head of this file.
pub struct QdrantIndex {
    client: Qdrant,
    settings: Settings,
    spaces: Vec<(VectorSpace, usize)>,
    seen: Seen,
}

impl fmt::Debug for QdrantIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QdrantIndex").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl QdrantIndex {
    /// Connects, and makes the collection where there is none. `spaces` are the vector spaces and their numbers a vector.
    pub async fn connect(settings: Settings, spaces: &[(VectorSpace, usize)]) -> Result<Self, StoreError> {
        let key = settings.api_key.as_ref().map(|key| key.expose().to_owned());
        let client = Qdrant::from_url(&settings.url)
            .api_key(key)
            .timeout(settings.timeout)
            .connect_timeout(settings.timeout)
            .skip_compatibility_check() // it prints, and of versions that work together
            .build()
            .map_err(|e| failed("read the address of the server", e))?;
        patiently("reach the server", || client.health_check()).await?;
        schema::make(&client, &settings, spaces).await?;
        Ok(Self { client, settings, spaces: spaces.to_vec(), seen: Seen::default() })
    }

    fn collection(&self) -> &str {
        &self.settings.collection
    }

    fn check(&self, space: &VectorSpace, length: Option<usize>) -> Result<(), StoreError> {
        check_space(&self.spaces, space, length)
    }

    async fn stamped(&self, id: ImageId) -> Result<Option<Stamped>, StoreError> {
        let payload = self.payload(id, &[field::RECORD, field::STAMP, field::STAMPS_BEFORE]).await?;
        payload.map(|payload| Stamped::from_payload(id, &payload)).transpose()
    }

    /// The stamps of its last writes, newest first.
    async fn stamps(&self, id: ImageId) -> Result<Vec<Stamp>, StoreError> {
        let payload = self.payload(id, &field::OF_STAMPS).await?.ok_or_else(|| not_found(id))?;
        point::stamps_of(id, &payload)
    }

    async fn payload(&self, id: ImageId, fields: &[&str]) -> Result<Option<Payload>, StoreError> {
        let get = || GetPointsBuilder::new(self.collection(), [point_id(id)]).with_payload(include(fields));
        let found = patiently("read a record", || self.client.get_points(get())).await?;
        Ok(found.result.into_iter().next().map(|point| point.payload))
    }

    /// Changes a record until nobody else did so in between. `change` says whether there is anything to change; false when
    /// there is not.
    async fn write(&self, id: ImageId, change: impl Fn(&mut Record) -> bool) -> Result<bool, StoreError> {
        for overtaken in 0..OVERTAKEN_MAX {
            let seen = self.seen.take(id);
            let may_be_old = seen.is_some();
            let before = match seen {
                Some(before) => before,
                None => self.stamped(id).await?.ok_or_else(|| not_found(id))?,
            };
            let mut record = before.record.clone();
            match change(&mut record) {
                false if may_be_old => continue,
                false => return Ok(false),
                true => {}
            }
            let stamp: Stamp = rand::rng().random_range(1..Stamp::MAX);
            let after = before.next(record, stamp);
            after.check()?;
            self.swap(id, before.stamp(), &after).await?;
            if self.stamps(id).await?.contains(&stamp) {
                self.seen.keep(after);
                return Ok(true);
            }
            if may_be_old {
                continue;
            }
            // Let the others through, not all at once.
            let pause = rand::rng().random_range(0..1_000 << overtaken.min(5));
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        let source = format!("others wrote it {OVERTAKEN_MAX} times in between").into();
        Err(StoreError::Unavailable { store: STORE, action: format!("change the record of {id}"), source })
    }

    /// Writes over the record with this stamp; over no other.
    async fn swap(&self, id: ImageId, stamp: Stamp, after: &Stamped) -> Result<(), StoreError> {
        let this = Asked::stamped(id, stamp);
        let selector = PointsSelectorOneOf::Filter(this.to_filter().unwrap_or_default());
        let payload = after.to_payload()?;
        let set = || {
            SetPayloadPointsBuilder::new(self.collection(), payload.clone())
                .points_selector(selector.clone())
                .wait(true)
                .ordering(strong())
        };
        patiently("write a record", || self.client.overwrite_payload(set())).await.map(drop)
    }

    fn nearest(&self, using: &str, vector: &[f32], among: Among<'_>, limit: usize) -> QueryPointsBuilder {
        let query = QueryPointsBuilder::new(self.collection())
            .query(Query::new_nearest(vector.to_vec()))
            .using(using)
            .limit((limit + SLACK) as u64);
        match Asked::among(among).to_filter() {
            Some(filter) => query.filter(filter),
            None => query,
        }
    }
}

#[async_trait]
impl Index for QdrantIndex {
    async fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        let id = record.id();
        let stamp: Stamp = rand::rng().random_range(1..Stamp::MAX);
        let claim = Stamped { record: record.clone(), stamps: vec![stamp] };
        claim.check()?;
        let payload = claim.to_payload()?;
        let fingerprint = point::bits(record.image.fingerprints.upright());
        let vectors = point::named([(FINGERPRINT.to_owned(), fingerprint)]);
        let insert = || {
            let point =
                PointStruct { id: Some(point_id(id)), payload: payload.clone(), vectors: Some(vectors.clone()) };
            UpsertPointsBuilder::new(self.collection(), vec![point])
                .update_mode(UpdateMode::InsertOnly)
                .wait(true)
                .ordering(strong())
        };
        patiently("claim an image", || self.client.upsert_points(insert())).await?;
        self.get(id).await?.ok_or_else(|| not_found(id))
    }

    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        let Some(stamped) = self.stamped(id).await? else { return Ok(None) };
        self.seen.keep(stamped.clone());
        Ok(Some(stamped.record))
    }

    async fn get_all(&self, ids: &[ImageId]) -> Result<Vec<Option<Record>>, StoreError> {
        let mut found = HashMap::with_capacity(ids.len());
        for page in ids.chunks(PAGE as usize) {
            let points: Vec<_> = page.iter().map(|id| point_id(*id)).collect();
            let fields = include(&[field::RECORD, field::STAMP]);
            let get = || GetPointsBuilder::new(self.collection(), points.clone()).with_payload(fields.clone());
            for point in patiently("read records", || self.client.get_points(get())).await?.result {
                let id = image_id(point.id).ok_or_else(|| send::unanswered("read records"))?;
                found.insert(id, Stamped::from_payload(id, &point.payload)?.record);
            }
        }
        Ok(ids.iter().map(|id| found.remove(id)).collect())
    }

    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError> {
        let apply = |record: &mut Record| {
            apply(record, change);
            true
        };
        self.write(id, apply).await.map(drop)
    }

    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError> {
        let apply = |record: &mut Record| {
            let matches = may_change(record, from, change);
            if matches {
                apply(record, change);
            }
            matches
        };
        self.write(id, apply).await
    }

    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        self.write(id, |record| add_vote(record, upload, labels)).await.map(drop)
    }

    async fn near_fingerprints(
        &self,
        queries: &[RangeQuery],
        among: &[Among<'_>],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        if queries.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let ask = |among: &Among<'_>, query: &RangeQuery| {
            let nearest = self.nearest(FINGERPRINT, &point::bits(query.fingerprint), *among, limit);
            // The server keeps what is below.
            nearest
                .score_threshold(query.radius as f32 + 0.5)
                .with_payload(include(&[field::RECORD, field::STAMP]))
                .build()
        };
        let asked: Vec<QueryPoints> =
            among.iter().flat_map(|among| queries.iter().map(move |query| ask(among, query))).collect();
        let batch = || QueryBatchPointsBuilder::new(self.collection(), asked.clone());
        let answer = patiently("search fingerprints", || self.client.query_batch(batch())).await?;
        let mut found: HashMap<ImageId, NearFingerprint> = HashMap::new();
        for (asked, points) in answer.result.into_iter().enumerate() {
            let query = asked % queries.len();
            for point in points.result {
                let distance = point.score.round() as u32;
                let id = image_id(point.id).ok_or_else(|| send::unanswered("search fingerprints"))?;
                let nearer = found.get(&id).is_none_or(|known| (distance, query) < (known.distance, known.query));
                if nearer && distance <= queries[query].radius {
                    let record = Arc::new(Stamped::from_payload(id, &point.payload)?.record);
                    found.insert(id, NearFingerprint { record, distance, query });
                }
            }
        }
        let found: Vec<_> = found.into_values().collect();
        let of_each = among.iter().flat_map(|among| {
            let these = found.iter().filter(|near| among.has(near.record.state, near.record.order()));
            nearest_prints(these.cloned().collect(), limit)
        });
        Ok(nearest_prints(of_each.collect(), usize::MAX))
    }

    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        self.check(space, Some(vector.len()))?;
        let vectors = point::named([(space.0.clone(), normalised(id, vector)?)]);
        // The server's own word for a point that is missing differs from version to version.
        if !self.seen.has(id) {
            self.get(id).await?.ok_or_else(|| not_found(id))?;
        }
        let put = || {
            let points = vec![PointVectors { id: Some(point_id(id)), vectors: Some(vectors.clone()) }];
            UpdatePointVectorsBuilder::new(self.collection(), points).wait(true).ordering(strong())
        };
        patiently("store a vector", || self.client.update_vectors(put())).await.map(drop)
    }

    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.check(space, None)?;
        let get =
            || GetPointsBuilder::new(self.collection(), [point_id(id)]).with_payload(false).with_vectors(only(space));
        let found = patiently("read a vector", || self.client.get_points(get())).await?;
        Ok(found.result.into_iter().next().and_then(|point| vector_of(point.vectors, space)))
    }

    async fn near_vectors(
        &self,
        space: &VectorSpace,
        vector: &[f32],
        cosine_min: f32,
        among: Among<'_>,
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        self.check(space, Some(vector.len()))?;
        let unit = normalised("query", vector)?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let query = || {
            let nearest = self.nearest(&space.0, &unit, among, limit);
            // The server keeps what is above.
            nearest.score_threshold(cosine_min - 2.0 * COSINE_TOLERANCE).with_payload(include(&field::OF_NEIGHBOUR))
        };
        let answer = patiently("search vectors", || self.client.query(query())).await?;
        let near = answer.result.into_iter().map(near_vector).collect::<Result<Vec<_>, _>>()?;
        Ok(nearest_first(near, cosine_min, limit))
    }

    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        let asked = Asked::repeats_of(id);
        let (mut records, mut after) = (Vec::new(), None);
        loop {
            let page = self.scroll(&asked, after, PAGE, None).await?;
            records.extend(page.records.into_iter().map(|(record, _)| record));
            after = page.next;
            if after.is_none() {
                return Ok(records);
            }
        }
    }

    async fn page(
        &self,
        select: &Select,
        after: Option<ImageId>,
        limit: usize,
        with: Option<&VectorSpace>,
    ) -> Result<Page, StoreError> {
        if let Some(space) = with {
            self.check(space, None)?;
        }
        let limit = u32::try_from(limit).unwrap_or(PAGE).clamp(1, PAGE);
        self.scroll(&Asked::of(select), after, limit, with).await
    }

    async fn count(&self, select: &Select) -> Result<u64, StoreError> {
        let filter = Asked::of(select).to_filter();
        let count = || {
            let count = CountPointsBuilder::new(self.collection()).exact(true);
            match &filter {
                Some(filter) => count.filter(filter.clone()),
                None => count,
            }
        };
        let answer = patiently("count records", || self.client.count(count())).await?;
        Ok(answer.result.map_or(0, |result| result.count))
    }

    async fn facet(&self, by: Facet, select: &Select, limit: usize) -> Result<Vec<Counted>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let filter = Asked::of(select).to_filter();
        let facet = || {
            let facet = FacetCountsBuilder::new(self.collection(), facet::field_of(by)).exact(true).limit(limit as u64);
            match &filter {
                Some(filter) => facet.filter(filter.clone()),
                None => facet,
            }
        };
        let answer = patiently("count records by a facet", || self.client.facet(facet())).await?;
        let counted = answer.hits.into_iter().map(|hit| facet::counted(by, hit));
        counted.collect::<Option<_>>().ok_or_else(|| send::unanswered("count records by a facet"))
    }

    /// Every write waited until it was in the server's log.
    async fn commit(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl QdrantIndex {
    async fn scroll(
        &self,
        asked: &Asked,
        after: Option<ImageId>,
        limit: u32,
        with: Option<&VectorSpace>,
    ) -> Result<Page, StoreError> {
        let from = match after.map(point::after) {
            None => None,
            Some(Some(from)) => Some(point_id(from)),
            Some(None) => return Ok(Page { records: Vec::new(), next: None }),
        };
        let scroll = ScrollPoints {
            collection_name: self.settings.collection.clone(),
            filter: asked.to_filter(),
            offset: from,
            limit: Some(limit),
            with_payload: Some(PayloadOptions::Include(include(&[field::RECORD, field::STAMP])).into()),
            with_vectors: with.map(|space| VectorsOptions::Include(only(space)).into()),
            ..ScrollPoints::default()
        };
        let answer = patiently("page through records", || self.client.scroll(scroll.clone())).await?;
        let records = answer.result.into_iter().map(|RetrievedPoint { id, payload, vectors, .. }| {
            let id = image_id(id).ok_or_else(|| send::unanswered("page through records"))?;
            let record = Stamped::from_payload(id, &payload)?.record;
            Ok((record, with.and_then(|space| vector_of(vectors, space))))
        });
        let records = records.collect::<Result<Vec<_>, StoreError>>()?;
        let next = records.last().map(|(record, _)| record.id()).filter(|_| answer.next_page_offset.is_some());
        Ok(Page { records, next })
    }
}

fn near_vector(point: ScoredPoint) -> Result<NearVector, StoreError> {
    let id = image_id(point.id).ok_or_else(|| send::unanswered("search vectors"))?;
    point::neighbour_of(id, point.score, &point.payload)
}

fn vector_of(vectors: Option<VectorsOutput>, space: &VectorSpace) -> Option<Vec<f32>> {
    match vectors?.get_vector_by_name(&space.0)? {
        vector_output::Vector::Dense(vector) => Some(vector.data),
        _ => None,
    }
}

/// These fields of the payload.
fn include(fields: &[&str]) -> PayloadIncludeSelector {
    PayloadIncludeSelector { fields: fields.iter().map(|field| (*field).to_owned()).collect() }
}

/// The vector of this space.
fn only(space: &VectorSpace) -> VectorsSelector {
    VectorsSelector { names: vec![space.0.clone()] }
}

/// One replica puts all writes to a point in order.
fn strong() -> WriteOrdering {
    WriteOrdering { r#type: WriteOrderingType::Strong.into() }
}
