//! Reads and writes of points, as reads and writes of the index.

use ::qdrant_client::qdrant::{
    BatchResult, CountPoints, CountResponse, CountResult, CreateFieldIndexCollection, DenseVector, FacetCounts,
    FacetResponse, Filter, GetPoints, GetResponse, NamedVectorsOutput, PointStruct, PointVectors,
    PointsOperationResponse, QueryBatchPoints, QueryBatchResponse, QueryPoints, QueryResponse, RetrievedPoint,
    ScoredPoint, ScrollPoints, ScrollResponse, SetPayloadPoints, UpdateMode, UpdatePointVectors, UpdateResult,
    UpdateStatus, UpsertPoints, Vector, VectorInput, VectorOutput, Vectors, VectorsOutput, WithPayloadSelector,
    WithVectorsSelector, points_selector::PointsSelectorOneOf, points_server::Points, query, vector, vector_input,
    vector_output, vectors::VectorsOptions, vectors_output, with_payload_selector, with_vectors_selector,
};
use dih_core::{
    ImageId,
    event::VectorSpace,
    image::RangeQuery,
    ports::{Among, Index, NearVector, Select},
};
use tonic::{Request, Response, Status};

use super::{
    super::{
        facet,
        filter::Asked,
        point::{self, FINGERPRINT, Payload, Stamped, field, image_id, point_id},
    },
    Served,
    decline::decline,
    foreign, invalid, status,
};

/// Points of an answer, where the request does not say.
const LIMIT: usize = 10;
/// Most points of an answer.
const LIMIT_MAX: usize = 20_000;

#[tonic::async_trait]
impl Points for Served {
    async fn upsert(&self, request: Request<UpsertPoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        self.check_collection(&request.collection_name)?;
        if request.update_mode() != UpdateMode::InsertOnly {
            return Err(invalid("points are inserted with `insert_only`, and changed by `overwrite_payload`"));
        }
        for PointStruct { id, payload, vectors } in request.points {
            let id = known_id(id)?;
            let claim = stamped(id, &payload)?;
            let [(name, bits)] =
                <[_; 1]>::try_from(named(vectors)?).map_err(|_| foreign("its one vector is missing"))?;
            let upright = claim.record.image.fingerprints.upright();
            if name != FINGERPRINT || point::fingerprint(&bits) != Some(upright) {
                return Err(foreign("its fingerprint is not that of its record"));
            }
            self.index.claim_stamped(&claim).map_err(status)?;
        }
        self.written().await
    }

    async fn overwrite_payload(
        &self,
        request: Request<SetPayloadPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        self.check_collection(&request.collection_name)?;
        let selector = request.points_selector.and_then(|selector| selector.points_selector_one_of);
        let Some(PointsSelectorOneOf::Filter(filter)) = selector else {
            return Err(invalid("a payload is overwritten by an id and a stamp"));
        };
        let stamped_one = asked(Some(filter))?.to_stamped();
        let (id, stamp) = stamped_one.ok_or_else(|| invalid("a payload is overwritten by an id and a stamp"))?;
        self.index.swap(stamp, &stamped(id, &request.payload)?).map_err(status)?;
        self.written().await
    }

    async fn update_vectors(
        &self,
        request: Request<UpdatePointVectors>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        self.check_collection(&request.collection_name)?;
        for PointVectors { id, vectors } in request.points {
            let id = known_id(id)?;
            for (name, vector) in named(vectors)? {
                self.index.put_vector(id, &VectorSpace(name), &vector).await.map_err(status)?;
            }
        }
        self.written().await
    }

    async fn get(&self, request: Request<GetPoints>) -> Result<Response<GetResponse>, Status> {
        let request = request.into_inner();
        self.check_collection(&request.collection_name)?;
        let (fields, spaces) = (fields(request.with_payload)?, spaces(request.with_vectors)?);
        let mut result = Vec::with_capacity(request.ids.len());
        for id in request.ids {
            let id = known_id(Some(id))?;
            if let Some(found) = self.index.stamped(id).map_err(status)? {
                let vectors = self.vectors(id, &spaces).await?;
                result.push(retrieved(id, chosen(&found, fields.as_deref())?, vectors));
            }
        }
        Ok(Response::new(GetResponse { result, ..GetResponse::default() }))
    }

    async fn scroll(&self, request: Request<ScrollPoints>) -> Result<Response<ScrollResponse>, Status> {
        let request = request.into_inner();
        self.check_collection(&request.collection_name)?;
        let (fields, spaces) = (fields(request.with_payload)?, spaces(request.with_vectors)?);
        let limit = limit(request.limit.map(u64::from));
        let from = request.offset.map(|id| known_id(Some(id))).transpose()?;
        let (ids, next) = self.ids(asked(request.filter)?, from, limit).await?;
        let mut result = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(found) = self.index.stamped(id).map_err(status)? {
                let vectors = self.vectors(id, &spaces).await?;
                result.push(retrieved(id, chosen(&found, fields.as_deref())?, vectors));
            }
        }
        let next_page_offset = next.map(point_id);
        Ok(Response::new(ScrollResponse { result, next_page_offset, ..ScrollResponse::default() }))
    }

    async fn count(&self, request: Request<CountPoints>) -> Result<Response<CountResponse>, Status> {
        let request = request.into_inner();
        self.check_collection(&request.collection_name)?;
        let count = self.index.count(&selected(request.filter)?).await.map_err(status)?;
        let result = Some(CountResult { count });
        Ok(Response::new(CountResponse { result, ..CountResponse::default() }))
    }

    async fn facet(&self, request: Request<FacetCounts>) -> Result<Response<FacetResponse>, Status> {
        let request = request.into_inner();
        self.check_collection(&request.collection_name)?;
        let by = facet::by_field(&request.key);
        let by = by.ok_or_else(|| invalid("points are counted by their state, labels or attributes"))?;
        let counted = self.index.facet(by, &selected(request.filter)?, limit(request.limit)).await.map_err(status)?;
        let hits = counted.into_iter().map(facet::hit).collect();
        Ok(Response::new(FacetResponse { hits, ..FacetResponse::default() }))
    }

    async fn query(&self, request: Request<QueryPoints>) -> Result<Response<QueryResponse>, Status> {
        let result = self.nearest(request.into_inner()).await?;
        Ok(Response::new(QueryResponse { result, ..QueryResponse::default() }))
    }

    async fn query_batch(&self, request: Request<QueryBatchPoints>) -> Result<Response<QueryBatchResponse>, Status> {
        let mut result = Vec::new();
        for query in request.into_inner().query_points {
            result.push(BatchResult { result: self.nearest(query).await? });
        }
        Ok(Response::new(QueryBatchResponse { result, ..QueryBatchResponse::default() }))
    }

    /// All that can be asked for has an index.
    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        self.check_collection(&request.into_inner().collection_name)?;
        Ok(Response::new(done()))
    }

    decline! {
        delete(DeletePoints) -> PointsOperationResponse;
        delete_vectors(DeletePointVectors) -> PointsOperationResponse;
        set_payload(SetPayloadPoints) -> PointsOperationResponse;
        delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
        clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
        delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
        create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
        delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
        search(SearchPoints) -> SearchResponse;
        search_batch(SearchBatchPoints) -> SearchBatchResponse;
        search_groups(SearchPointGroups) -> SearchGroupsResponse;
        recommend(RecommendPoints) -> RecommendResponse;
        recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
        recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
        discover(DiscoverPoints) -> DiscoverResponse;
        discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
        update_batch(UpdateBatchPoints) -> UpdateBatchResponse;
        query_groups(QueryPointGroups) -> QueryGroupsResponse;
        search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
        search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
    }
}

impl Served {
    /// The answer to a write, once it is durable.
    async fn written(&self) -> Result<Response<PointsOperationResponse>, Status> {
        self.index.commit().await.map_err(status)?;
        Ok(Response::new(done()))
    }

    /// Up to so many ids from one on, in order, and the one to go on from.
    async fn ids(
        &self,
        asked: Asked,
        from: Option<ImageId>,
        limit: usize,
    ) -> Result<(Vec<ImageId>, Option<ImageId>), Status> {
        if let Some(of) = asked.to_repeats_of() {
            let repeats = self.index.repeats_of(of).await.map_err(status)?;
            let mut ids: Vec<ImageId> = repeats.iter().map(|record| record.id()).collect();
            ids.retain(|id| from.is_none_or(|from| *id >= from));
            ids.sort_unstable();
            let next = ids.get(limit).copied();
            ids.truncate(limit);
            return Ok((ids, next));
        }
        let unlisted = || invalid("points are listed by states, labels and attributes, or by what they repeat");
        let select = asked.to_select().ok_or_else(unlisted)?;
        let page = self.index.page(select, from.and_then(point::before), limit, None).await.map_err(status)?;
        let ids = page.records.iter().map(|(record, _)| record.id()).collect();
        Ok((ids, page.next.and_then(point::after)))
    }

    async fn nearest(&self, request: QueryPoints) -> Result<Vec<ScoredPoint>, Status> {
        self.check_collection(&request.collection_name)?;
        let Some(query::Variant::Nearest(VectorInput { variant: Some(vector_input::Variant::Dense(asked_for)) })) =
            request.query.and_then(|query| query.variant)
        else {
            return Err(invalid("a query is for what is nearest to a dense vector"));
        };
        let asked = asked(request.filter)?;
        let among = asked.to_among().ok_or_else(|| invalid("what is near is filtered by states and order only"))?;
        let (fields, limit) = (fields(request.with_payload)?, limit(request.limit));
        match request.using.unwrap_or_default() {
            using if using == FINGERPRINT => {
                let fingerprint = point::fingerprint(&asked_for.data);
                let fingerprint = fingerprint.ok_or_else(|| invalid("a fingerprint is 64 times 0 or 1"))?;
                let radius = request.score_threshold.map_or(64, |radius| radius.clamp(0.0, 64.0) as u32);
                let query = RangeQuery { fingerprint, radius };
                self.near_fingerprints(query, among, limit, fields.as_deref()).await
            }
            using => {
                let (space, cosine_min) = (VectorSpace(using), request.score_threshold.unwrap_or(-1.0));
                let near = self.index.near_vectors(&space, &asked_for.data, cosine_min, among, limit).await;
                self.near_vectors(near.map_err(status)?, fields.as_deref())
            }
        }
    }

    async fn near_fingerprints(
        &self,
        query: RangeQuery,
        among: Among<'_>,
        limit: usize,
        fields: Option<&[String]>,
    ) -> Result<Vec<ScoredPoint>, Status> {
        let near = self.index.near_fingerprints(&[query], &[among], limit).await.map_err(status)?;
        let scored = near.into_iter().map(|near| self.scored((near.record.id(), near.distance as f32), fields));
        scored.filter_map(Result::transpose).collect()
    }

    /// What is told of a neighbour is at hand; for more its record is read.
    fn near_vectors(&self, near: Vec<NearVector>, fields: Option<&[String]>) -> Result<Vec<ScoredPoint>, Status> {
        let at_hand = fields.is_some_and(|fields| are_among(fields, &field::OF_NEIGHBOUR));
        let scored = |near: NearVector| match at_hand {
            true => Ok(Some(scored_point(near.image.id, near.cosine, point::neighbour_to_payload(&near)))),
            false => self.scored((near.image.id, near.cosine), fields),
        };
        near.into_iter().map(scored).filter_map(Result::transpose).collect()
    }

    fn scored(&self, (id, score): (ImageId, f32), fields: Option<&[String]>) -> Result<Option<ScoredPoint>, Status> {
        let found = self.index.stamped(id).map_err(status)?;
        found.map(|found| Ok(scored_point(id, score, chosen(&found, fields)?))).transpose()
    }

    async fn vectors(&self, id: ImageId, spaces: &[VectorSpace]) -> Result<Option<VectorsOutput>, Status> {
        if spaces.is_empty() {
            return Ok(None);
        }
        let mut vectors = NamedVectorsOutput::default();
        for space in spaces {
            if let Some(data) = self.index.vector(id, space).await.map_err(status)? {
                let vector = Some(vector_output::Vector::Dense(DenseVector { data }));
                vectors.vectors.insert(space.0.clone(), VectorOutput { vector, ..VectorOutput::default() });
            }
        }
        Ok(Some(VectorsOutput { vectors_options: Some(vectors_output::VectorsOptions::Vectors(vectors)) }))
    }
}

fn done() -> PointsOperationResponse {
    let result = UpdateResult { operation_id: None, status: UpdateStatus::Completed.into() };
    PointsOperationResponse { result: Some(result), ..PointsOperationResponse::default() }
}

fn known_id(id: Option<::qdrant_client::qdrant::PointId>) -> Result<ImageId, Status> {
    image_id(id).ok_or_else(|| invalid("the id of a point is a UUID"))
}

fn asked(filter: Option<Filter>) -> Result<Asked, Status> {
    Asked::from_filter(filter).map_err(invalid)
}

fn selected(filter: Option<Filter>) -> Result<Select, Status> {
    let select = asked(filter)?.to_select().cloned();
    select.ok_or_else(|| invalid("points are counted by states, labels and attributes"))
}

fn are_among(fields: &[String], known: &[&str]) -> bool {
    fields.iter().all(|field| known.contains(&field.as_str()))
}

fn stamped(id: ImageId, payload: &Payload) -> Result<Stamped, Status> {
    let stamped = Stamped::from_payload(id, payload).map_err(status)?;
    match stamped.record.id() == id {
        true => Ok(stamped),
        false => Err(foreign("its record is that of another image")),
    }
}

fn named(vectors: Option<Vectors>) -> Result<Vec<(String, Vec<f32>)>, Status> {
    let Some(VectorsOptions::Vectors(named)) = vectors.and_then(|vectors| vectors.vectors_options) else {
        return Err(invalid("a point has named vectors"));
    };
    let dense = |(name, vector): (String, Vector)| match vector.vector {
        Some(vector::Vector::Dense(vector)) => Ok((name, vector.data)),
        _ => Err(invalid(format!("the vector `{name}` is not dense"))),
    };
    named.vectors.into_iter().map(dense).collect()
}

fn limit(asked: Option<u64>) -> usize {
    asked.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LIMIT).clamp(1, LIMIT_MAX)
}

/// None: all fields.
fn fields(selector: Option<WithPayloadSelector>) -> Result<Option<Vec<String>>, Status> {
    use with_payload_selector::SelectorOptions;
    match selector.and_then(|selector| selector.selector_options) {
        Some(SelectorOptions::Include(include)) => Ok(Some(include.fields)),
        Some(SelectorOptions::Enable(true)) => Ok(None),
        None | Some(SelectorOptions::Enable(false)) => Ok(Some(Vec::new())),
        Some(SelectorOptions::Exclude(_)) => Err(invalid("fields of a payload are included, not excluded")),
    }
}

fn spaces(selector: Option<WithVectorsSelector>) -> Result<Vec<VectorSpace>, Status> {
    use with_vectors_selector::SelectorOptions;
    match selector.and_then(|selector| selector.selector_options) {
        Some(SelectorOptions::Include(include)) => Ok(include.names.into_iter().map(VectorSpace).collect()),
        None | Some(SelectorOptions::Enable(false)) => Ok(Vec::new()),
        Some(SelectorOptions::Enable(true)) => Err(invalid("vectors are asked for by their names")),
    }
}

fn chosen(found: &Stamped, fields: Option<&[String]>) -> Result<Payload, Status> {
    if fields.is_some_and(<[String]>::is_empty) {
        return Ok(Payload::new());
    }
    if fields.is_some_and(|fields| are_among(fields, &field::OF_STAMPS)) {
        return Ok(found.stamps_to_payload());
    }
    let mut payload = found.to_payload().map_err(status)?;
    if let Some(fields) = fields {
        payload.retain(|key, _| fields.contains(key));
    }
    Ok(payload)
}

fn retrieved(id: ImageId, payload: Payload, vectors: Option<VectorsOutput>) -> RetrievedPoint {
    RetrievedPoint { id: Some(point_id(id)), payload, vectors, ..RetrievedPoint::default() }
}

fn scored_point(id: ImageId, score: f32, payload: Payload) -> ScoredPoint {
    ScoredPoint { id: Some(point_id(id)), payload, score, ..ScoredPoint::default() }
}
