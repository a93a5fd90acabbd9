//! Between what records are counted by and facets of Qdrant. Pure, and the same on both sides.

use ::qdrant_client::qdrant::{FacetHit, FacetValue, facet_value::Variant};
use dih_core::ports::{Counted, Facet};

use super::point::{attribute, field};

const FACETS: [(Facet, &str); 3] =
    [(Facet::State, field::STATE), (Facet::Label, field::LABELS), (Facet::Attribute, field::ATTRIBUTES)];

/// The field of the payload whose values are counted.
pub(super) fn field_of(by: Facet) -> &'static str {
    FACETS.iter().find(|(facet, _)| *facet == by).expect("all are listed").1
}

#[cfg(feature = "edge")]
pub(super) fn by_field(field: &str) -> Option<Facet> {
    FACETS.iter().find(|(_, known)| *known == field).map(|(facet, _)| *facet)
}

/// As it stands in the payload.
#[cfg(feature = "edge")]
pub(super) fn hit(Counted { key, value, records }: Counted) -> FacetHit {
    let text = key.map_or_else(|| value.clone(), |key| attribute(&key, &value));
    FacetHit { value: Some(FacetValue { variant: Some(Variant::StringValue(text)) }), count: records }
}

/// None where the value is none of ours.
pub(super) fn counted(by: Facet, hit: FacetHit) -> Option<Counted> {
    let Some(Variant::StringValue(text)) = hit.value?.variant else { return None };
    let (key, value) = match by {
        Facet::State | Facet::Label => (None, text),
        Facet::Attribute => {
            let [key, value]: [String; 2] = serde_json::from_str(&text).ok()?;
            (Some(key), value)
        }
    };
    Some(Counted { key, value, records: hit.count })
}

#[cfg(all(test, feature = "edge"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_reads_back_as_it_was_written() {
        for (by, key, value) in
            [(Facet::State, None, "curated"), (Facet::Label, None, "a=\"b\""), (Facet::Attribute, Some("k\"="), "=v")]
        {
            let one = Counted { key: key.map(str::to_owned), value: value.to_owned(), records: 7 };
            assert_eq!(counted(by, hit(one.clone())), Some(one));
            assert_eq!(by_field(field_of(by)), Some(by));
        }
        assert_eq!(by_field(field::ORDER), None);
        assert_eq!(counted(Facet::Attribute, hit(Counted { key: None, value: "x".into(), records: 1 })), None);
    }
}
