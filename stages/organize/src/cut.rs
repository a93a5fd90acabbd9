//! Cut: publishes a version of a data set.
//!
//! Takes    `CutRequested`. Gives `DatasetPublished` and a revision for every photo that is newly held or cleared, or
//!          `JobFailed` where nothing can be cut.
//! Keeps    `datasets/<name>/<version>/…`, `datasets/<name>/shards/…` and the head in the small state.
//! Crash    safe at any line: shards, files, head (compare-and-set), then states, then the answer. Without the head a
//!          version is only unreferenced files, which the next try overwrites; with it, the request that comes again
//!          finds its version and finishes what was left.
//! Weak at  a photo that changes while the selection is read: it is taken as it was on its page.

use std::{collections::BTreeMap, sync::Arc};

use dih_core::{
    Class, Delivery, ImageId, Millis, Notice, Outcome, Stage, StageError, VersionId,
    event::{CutRequested, DatasetPublished, JobFailed, VectorSpace},
    ports::{Blobs, Index, SmallState},
    work::Bench,
};
use dih_imaging::Limits;
use tracing::{info, warn};

use crate::{
    assemble::Assembler,
    clusters,
    config::Config,
    datasets::{self, Cut as MadeCut, DatasetError, Definition, Head},
    diversity::{self, Wanted},
    gather::{self, Gathered},
    lease::Lease,
    manifest, neighbours,
    pictures::Studio,
    places::Places,
    plan::{self, Given, Plan},
    revise::{self, Revision},
    second_look,
    version::{self, Version},
};

#[derive(Debug)]
pub struct Cut {
    pub(crate) config: Config,
    pub(crate) space: VectorSpace,
    pub(crate) index: Arc<dyn Index>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) state: Arc<dyn SmallState>,
    pub(crate) studio: Studio,
    pub(crate) bench: Bench,
    pub(crate) places: Places,
}

impl Cut {
    /// `space` is the vector space that versions are judged and grouped by.
    pub fn new(
        config: &Config,
        limits: Limits,
        space: VectorSpace,
        index: Arc<dyn Index>,
        blobs: Arc<dyn Blobs>,
        state: Arc<dyn SmallState>,
        bench: Bench,
    ) -> Self {
        let studio = Studio::new(config, limits, bench.clone());
        Self { config: config.clone(), space, index, blobs, state, studio, bench, places: Places::default() }
    }

    /// Names in the data card where labels stand.
    #[must_use]
    pub fn placing(mut self, places: Places) -> Self {
        self.places = places;
        self
    }
}

impl Stage for Cut {
    const CONSUMER: &'static str = "organize-cut";
    type Input = CutRequested;

    async fn process(&self, delivery: Delivery<CutRequested>) -> Result<Outcome, StageError> {
        let request = delivery.input;
        let made = match self.made(&request).await {
            Err(Failure::Job(reason)) => {
                warn!(dataset = %request.dataset, reason, "no version was cut");
                let failed = JobFailed { request: request.request, reason, at: Millis::now() };
                return Ok(Outcome::emit(Notice::JobFailed(failed)));
            }
            Err(Failure::Stage(error)) => return Err(error),
            Ok(made) => made,
        };
        self.announce(&request, &made).await
    }
}

/// Why there is no version.
enum Failure {
    /// It cannot be made, now or on another try; the reason is for whoever asked.
    Job(String),
    Stage(StageError),
}

impl<E: Into<StageError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Stage(error.into())
    }
}

impl Cut {
    /// The version that this request made, before or now.
    async fn made(&self, request: &CutRequested) -> Result<MadeCut, Failure> {
        let name = &request.dataset;
        let definition = match datasets::definition(&*self.state, name).await {
            Err(error @ DatasetError::Unknown { .. }) => return Err(Failure::Job(error.to_string())),
            found => found?,
        };
        let found = datasets::read::<Head>(&*self.state, &datasets::head_key(name)).await?;
        let (head, revision) = found.map_or((Head::default(), None), |(head, revision)| (head, Some(revision)));
        if let Some(made) = head.made_by(&request.request) {
            return Ok(made.clone());
        }
        let version = VersionId { dataset: name.clone(), version: head.version + 1 };
        let stale = self.config.cut_stale.0;
        let lease = Lease::take(&*self.state, name, version.version, &request.request, stale).await?;
        let built = lease.hold(self.build(&version, &definition)).await?;
        if let Err(reason) = built {
            return Err(Failure::Job(reason));
        }
        let next = head.advanced(&request.request, version::key(&version, version::INDEX)?, Millis::now());
        let written = datasets::write(&*self.state, &datasets::head_key(name), &next, revision).await?;
        if written.is_none() {
            let problem = format!("another process published `{version}` meanwhile; this request is tried again");
            return Err(Failure::Stage(StageError::new(Class::Retry, problem)));
        }
        info!(%version, "version published");
        Ok(next.made_by(&request.request).cloned().expect("it was just entered"))
    }

    /// Finishes what follows from a published version; the same on every try.
    async fn announce(&self, request: &CutRequested, made: &MadeCut) -> Result<Outcome, StageError> {
        let id = VersionId { dataset: request.dataset.clone(), version: made.version };
        let version = Version::read(&*self.blobs, &id).await?;
        let published = DatasetPublished {
            version: id,
            request: request.request.clone(),
            members: version.members,
            held: version.held,
            labels: version.labels.clone(),
            manifest_sha256: version.manifest_sha256()?.to_owned(),
            at: made.at,
        };
        let list = self.blobs.get(&version.file(version::REVISIONS)?.key).await?;
        let revisions: Vec<Revision> =
            serde_json::from_slice(&list).map_err(|e| StageError::new(Class::BadInput, e))?;
        let notices = revise::apply(&*self.index, &revisions).await?;
        Ok(Outcome::emit(Notice::Published(published)).and_all(notices))
    }

    /// Writes all files of a version, `version.json` last. The inner error is a reason why there is none to write.
    async fn build(&self, id: &VersionId, definition: &Definition) -> Result<Result<(), String>, StageError> {
        let gathered =
            gather::gather(&*self.index, definition, &self.space, self.config.page.get(), &self.bench).await?;
        if gathered.members.is_empty() {
            return Ok(Err(nothing(id, definition, &gathered)));
        }
        let near = neighbours::nearness(&*self.index, &gathered, &self.space, &self.config, &self.bench).await?;
        let members_max = (gathered.members.len() as f64 * self.config.cluster_share_max) as usize;
        let groups =
            clusters::groups(gathered.members.len(), &near.links, self.config.link_cosine, members_max.max(GROUP_MIN));
        let outliers: Vec<Option<f32>> = near.nearest.iter().map(|nearest| diversity::outlier(nearest)).collect();
        let looked = second_look::judge(&gathered, near.nearest, &groups, &self.config, &self.bench).await?;
        let earlier = self.earlier_splits(id).await?;
        let known = plan::Known { judgements: &looked.judgements, groups: &groups, outliers: &outliers };
        let plan = plan::plan(&gathered.members, &known, earlier, definition, id.version);
        if plan.published.is_empty() {
            return Ok(Err(unpublished(id, &plan)));
        }
        let gathered = Arc::new(gathered);
        let plan = self.narrow(plan, &gathered, definition).await?;
        if plan.published.is_empty() {
            return Ok(Err(format!(
                "`{}` leaves no photo: none that is left has a vector to be compared by",
                id.dataset
            )));
        }
        let (index, space) = (&*self.index, &self.space);
        let assembler = Assembler { index, gathered: &gathered, looked: &looked, outliers: &outliers, space };
        self.write(id, definition, &assembler, &plan).await.map(Ok)
    }

    /// The plan with only the most different photos, where the definition asks for that.
    async fn narrow(&self, plan: Plan, gathered: &Arc<Gathered>, definition: &Definition) -> Result<Plan, StageError> {
        let in_all = definition.diverse.map(|n| Wanted::InAll(n as usize));
        let of_each = definition.diverse_per_label.map(|n| Wanted::OfEach(n as usize));
        let Some(wanted) = in_all.or(of_each) else { return Ok(plan) };
        let gathered = gathered.clone();
        let narrowed = self.bench.run(move || diversity::narrow(plan, &gathered, wanted)).await?;
        narrowed.map_err(|e| StageError::new(Class::Retry, e))
    }

    /// The splits that the version before this one remembers.
    async fn earlier_splits(&self, id: &VersionId) -> Result<BTreeMap<ImageId, Given>, StageError> {
        let Some(earlier) = id.version.checked_sub(1).filter(|v| *v > 0) else { return Ok(BTreeMap::new()) };
        let earlier = VersionId { dataset: id.dataset.clone(), version: earlier };
        let bytes = self.blobs.get(&version::key(&earlier, version::SPLITS)?).await?;
        Ok(manifest::splits::decode(bytes)?)
    }
}

/// A group of this size is never too large, however small the set.
const GROUP_MIN: usize = 20;

fn unpublished(id: &VersionId, plan: &Plan) -> String {
    let mut reason = format!("all photos of `{}` are left out: {} have doubtful labels", id.dataset, plan.held.len());
    if plan.outliers > 0 {
        reason += &format!(", {} are above `outlier_max`", plan.outliers);
    }
    if plan.between > 0 {
        reason += &format!(", {} look like photos of two splits", plan.between);
    }
    reason + "; review them first"
}

fn nothing(id: &VersionId, definition: &Definition, gathered: &Gathered) -> String {
    let name = &id.dataset;
    let labels: Vec<&str> = definition.labels.iter().map(|l| l.as_str()).collect();
    let mut reason = format!("data set `{name}` selects no photo");
    if !labels.is_empty() {
        reason += &format!("; it asks for the labels {}", labels.join(", "));
    }
    if !definition.attributes.is_empty() {
        let wanted: Vec<String> = definition.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        reason += &format!("; it asks for {}", wanted.join(", "));
    }
    if gathered.below_score > 0 {
        reason += &format!("; {} photos score below {}", gathered.below_score, definition.label_score_min);
    }
    reason + "; `dih verdicts` shows what is curated"
}
