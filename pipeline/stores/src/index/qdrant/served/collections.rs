//! The one collection there is: described, and never changed.

use std::collections::HashMap;

use ::qdrant_client::qdrant::{
    CollectionConfig, CollectionDescription, CollectionExists, CollectionExistsRequest, CollectionExistsResponse,
    CollectionInfo, CollectionOperationResponse, CollectionParams, CollectionStatus, CreateCollection,
    GetCollectionInfoRequest, GetCollectionInfoResponse, ListCollectionsRequest, ListCollectionsResponse,
    PayloadSchemaInfo, VectorParamsMap, VectorsConfig, collections_server::Collections, vectors_config::Config,
};
use dih_core::ports::{Index, Select};
use tonic::{Request, Response, Status};

use super::{
    super::schema::{self, INDEXED},
    Served,
    decline::decline,
    status,
};

#[tonic::async_trait]
impl Collections for Served {
    async fn get(
        &self,
        request: Request<GetCollectionInfoRequest>,
    ) -> Result<Response<GetCollectionInfoResponse>, Status> {
        self.check_collection(&request.into_inner().collection_name)?;
        let points = self.index.count(&Select::default()).await.map_err(status)?;
        let vectors = Config::ParamsMap(VectorParamsMap { map: schema::vectors(self.spaces()) });
        let params = CollectionParams {
            shard_number: 1,
            vectors_config: Some(VectorsConfig { config: Some(vectors) }),
            ..CollectionParams::default()
        };
        let field = |(key, kind): &(&str, _)| {
            let schema = PayloadSchemaInfo { data_type: schema::payload_type(*kind).into(), ..Default::default() };
            ((*key).to_owned(), schema)
        };
        let info = CollectionInfo {
            status: CollectionStatus::Green.into(),
            segments_count: 1,
            config: Some(CollectionConfig { params: Some(params), ..CollectionConfig::default() }),
            payload_schema: INDEXED.iter().map(field).collect::<HashMap<_, _>>(),
            points_count: Some(points),
            ..CollectionInfo::default()
        };
        Ok(Response::new(GetCollectionInfoResponse { result: Some(info), time: 0.0 }))
    }

    async fn list(&self, _: Request<ListCollectionsRequest>) -> Result<Response<ListCollectionsResponse>, Status> {
        let collections = vec![CollectionDescription { name: self.collection.to_string() }];
        Ok(Response::new(ListCollectionsResponse { collections, time: 0.0 }))
    }

    async fn collection_exists(
        &self,
        request: Request<CollectionExistsRequest>,
    ) -> Result<Response<CollectionExistsResponse>, Status> {
        let exists = request.into_inner().collection_name == *self.collection;
        Ok(Response::new(CollectionExistsResponse { result: Some(CollectionExists { exists }), time: 0.0 }))
    }

    async fn create(
        &self,
        request: Request<CreateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let name = request.into_inner().collection_name;
        self.check_collection(&name)?;
        Err(Status::already_exists(format!("the collection `{name}` is there")))
    }

    decline! {
        update(UpdateCollection) -> CollectionOperationResponse;
        delete(DeleteCollection) -> CollectionOperationResponse;
        update_aliases(ChangeAliases) -> CollectionOperationResponse;
        list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
        list_aliases(ListAliasesRequest) -> ListAliasesResponse;
        collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse;
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}
