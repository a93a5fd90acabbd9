//! The collection that the client needs, made where it is not, and held against what is there.

use std::collections::HashMap;

use ::qdrant_client::{
    Qdrant,
    qdrant::{
        CollectionInfo, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, Datatype, Distance, FieldType,
        PayloadSchemaType, ScalarQuantizationBuilder, VectorParams, VectorParamsBuilder, VectorParamsMap,
        VectorsConfig, vectors_config::Config,
    },
};
use dih_core::{event::VectorSpace, ports::StoreError};

use super::{
    Settings, failed,
    point::{FINGERPRINT, FINGERPRINT_NUMBERS, field},
};
use crate::{fault, index::STORE};

/// What is searched by. Without these a search reads every payload.
pub(super) const INDEXED: [(&str, FieldType); 6] = [
    (field::STATE, FieldType::Keyword),
    (field::LABELS, FieldType::Keyword),
    (field::ATTRIBUTES, FieldType::Keyword),
    (field::REPEAT_OF, FieldType::Keyword),
    (field::STAMP, FieldType::Integer),
    (field::ORDER, FieldType::Integer),
];

/// Makes the collection and its payload indexes, if they are not there. Many may do so at once.
pub(super) async fn make(
    client: &Qdrant,
    settings: &Settings,
    spaces: &[(VectorSpace, usize)],
) -> Result<(), StoreError> {
    let name = &settings.collection;
    let there = client.collection_exists(name).await.map_err(|e| failed("look for the collection", e))?;
    if !there {
        let create = CreateCollectionBuilder::new(name)
            .vectors_config(Config::ParamsMap(VectorParamsMap { map: vectors(spaces) }))
            .on_disk_payload(true)
            .replication_factor(settings.replicas)
            // More than half, so that a write is not lost with one of them.
            .write_consistency_factor(settings.replicas / 2 + 1);
        // Somebody may have been faster; what is there is looked at below.
        let made = client.create_collection(create).await;
        let there = client.collection_exists(name).await.map_err(|e| failed("look for the collection", e))?;
        if let (Err(error), false) = (made, there) {
            return Err(failed("make the collection", error));
        }
    }
    let info = info(client, name).await?;
    check(&info, name, spaces)?;
    for (key, kind) in INDEXED.iter().filter(|(key, _)| !info.payload_schema.contains_key(*key)) {
        let index = CreateFieldIndexCollectionBuilder::new(name, *key, *kind).wait(true);
        client.create_field_index(index).await.map_err(|e| failed("make an index of the payload", e))?;
    }
    Ok(())
}

/// How the server tells of an index.
pub(super) fn payload_type(kind: FieldType) -> PayloadSchemaType {
    match kind {
        FieldType::Integer => PayloadSchemaType::Integer,
        _ => PayloadSchemaType::Keyword,
    }
}

async fn info(client: &Qdrant, name: &str) -> Result<CollectionInfo, StoreError> {
    let info = client.collection_info(name).await.map_err(|e| failed("look at the collection", e))?;
    info.result.ok_or_else(|| fault::corrupt(STORE, name, "the collection has no description"))
}

/// The vectors of a point, by their names.
pub(super) fn vectors(spaces: &[(VectorSpace, usize)]) -> HashMap<String, VectorParams> {
    let fingerprint =
        VectorParamsBuilder::new(FINGERPRINT_NUMBERS, Distance::Manhattan).datatype(Datatype::Uint8).build();
    let of_model = |numbers: usize| {
        // Searched by one byte a number, in memory; what is near is compared as it is, from the disk.
        let sketches = ScalarQuantizationBuilder::default().always_ram(true);
        VectorParamsBuilder::new(numbers as u64, Distance::Cosine).on_disk(true).quantization_config(sketches).build()
    };
    let models = spaces.iter().map(|(space, numbers)| (space.0.clone(), of_model(*numbers)));
    std::iter::once((FINGERPRINT.to_owned(), fingerprint)).chain(models).collect()
}

/// Refuses a collection that was made for something else.
fn check(info: &CollectionInfo, name: &str, spaces: &[(VectorSpace, usize)]) -> Result<(), StoreError> {
    let params = info.config.as_ref().and_then(|config| config.params.as_ref());
    let have = match params.and_then(|params| params.vectors_config.as_ref()) {
        Some(VectorsConfig { config: Some(Config::ParamsMap(map)) }) => map.map.clone(),
        _ => HashMap::new(),
    };
    for (vector, want) in vectors(spaces) {
        let fits = have.get(&vector).is_some_and(|have| (have.size, have.distance) == (want.size, want.distance));
        if !fits {
            let action = format!("use the collection `{name}`: it has no vector `{vector}` of {} numbers", want.size);
            let remedy =
                "use the model that it was made with, or name another collection in `stores.qdrant.collection`";
            return Err(fault::refused(STORE, action, remedy));
        }
    }
    Ok(())
}
