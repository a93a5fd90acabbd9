//! Which points an operation is about: between what is asked for here and a filter of Qdrant. Pure.
//!
//! The client makes filters of exactly these conditions, and the server understands these and no others.

use ::qdrant_client::qdrant::{
    Condition, FieldCondition, Filter, Range, condition::ConditionOneOf, r#match::MatchValue,
};
use dih_core::{
    ImageId, Label, UploadSeq,
    ports::{Among, Select},
};

use super::point::{self, Stamp, attribute, field};

/// All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Asked {
    pub(super) id: Option<ImageId>,
    pub(super) stamp: Option<Stamp>,
    pub(super) repeat_of: Option<ImageId>,
    /// Later in the order than this.
    pub(super) after: Option<UploadSeq>,
    /// This one, or earlier.
    pub(super) until: Option<UploadSeq>,
    pub(super) select: Select,
}

impl Asked {
    pub(super) fn of(select: &Select) -> Self {
        Self { select: select.clone(), ..Self::default() }
    }

    pub(super) fn among(among: Among<'_>) -> Self {
        let select = Select { states: among.states.to_vec(), ..Select::default() };
        Self { after: among.after, until: among.until, select, ..Self::default() }
    }

    /// One point, unless it changed.
    pub(super) fn stamped(id: ImageId, stamp: Stamp) -> Self {
        Self { id: Some(id), stamp: Some(stamp), ..Self::default() }
    }

    pub(super) fn repeats_of(of: ImageId) -> Self {
        Self { repeat_of: Some(of), ..Self::default() }
    }

    /// As of [`Asked::of`], if it is that and no more; so the others.
    pub(super) fn to_select(&self) -> Option<&Select> {
        (*self == Self::of(&self.select)).then_some(&self.select)
    }

    pub(super) fn to_among(&self) -> Option<Among<'_>> {
        let among = Among { states: &self.select.states, after: self.after, until: self.until };
        (*self == Self::among(among)).then_some(among)
    }

    pub(super) fn to_stamped(&self) -> Option<(ImageId, Stamp)> {
        self.id.zip(self.stamp).filter(|(id, stamp)| *self == Self::stamped(*id, *stamp))
    }

    pub(super) fn to_repeats_of(&self) -> Option<ImageId> {
        self.repeat_of.filter(|of| *self == Self::repeats_of(*of))
    }

    /// None where nothing is asked for.
    pub(super) fn to_filter(&self) -> Option<Filter> {
        let Self { id, stamp, repeat_of, after, until, select: Select { states, labels, attributes } } = self;
        let texts = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<String>>();
        let any = |key: &str, texts: Vec<String>| (!texts.is_empty()).then(|| Condition::matches(key, texts));
        let mut must: Vec<Condition> = Vec::new();
        must.extend(id.map(|id| Condition::has_id([point::point_id(id)])));
        must.extend(stamp.map(|stamp| Condition::matches(field::STAMP, stamp)));
        must.extend(repeat_of.map(|of| Condition::matches(field::REPEAT_OF, of.to_string())));
        let bound = |order: Option<UploadSeq>| order.map(|order| order.0 as f64);
        let range = Range { gt: bound(*after), lte: bound(*until), ..Range::default() };
        must.extend(after.or(*until).map(|_| Condition::range(field::ORDER, range)));
        must.extend(any(field::STATE, texts(states.iter().map(|state| state.as_str()).collect())));
        must.extend(any(field::LABELS, texts(labels.iter().map(Label::as_str).collect())));
        must.extend(attributes.iter().map(|(key, value)| Condition::matches(field::ATTRIBUTES, attribute(key, value))));
        (!must.is_empty()).then(|| Filter::must(must))
    }

    /// # Errors
    /// Names the condition that is none of these.
    pub(super) fn from_filter(filter: Option<Filter>) -> Result<Self, String> {
        let Some(Filter { should, must, must_not, min_should }) = filter else { return Ok(Self::default()) };
        if !should.is_empty() || !must_not.is_empty() || min_should.is_some() {
            return Err("a filter may have `must` only".into());
        }
        let mut asked = Self::default();
        for condition in must {
            asked.add(condition)?;
        }
        Ok(asked)
    }

    fn add(&mut self, condition: Condition) -> Result<(), String> {
        match condition.condition_one_of {
            Some(ConditionOneOf::HasId(ids)) => {
                let [id] = <[_; 1]>::try_from(ids.has_id).map_err(|_| "`has_id` takes one id")?;
                set(&mut self.id, point::image_id(Some(id)).ok_or("`has_id` takes a UUID")?, "has_id")
            }
            Some(ConditionOneOf::Field(FieldCondition { key, range: Some(range), .. })) => self.add_range(&key, range),
            Some(ConditionOneOf::Field(FieldCondition { key, r#match, .. })) => {
                let value = r#match.and_then(|value| value.match_value);
                self.add_match(&key, value.ok_or(format!("`{key}` must be matched"))?)
            }
            other => Err(format!("the condition {other:?} is not supported")),
        }
    }

    fn add_range(&mut self, key: &str, range: Range) -> Result<(), String> {
        let (after, until) = match range {
            Range { gt, gte: None, lt: None, lte } if key == field::ORDER && gt.or(lte).is_some() => (gt, lte),
            other => return Err(format!("`{key}` cannot be in {other:?}")),
        };
        for (slot, order) in [(&mut self.after, after), (&mut self.until, until)] {
            let Some(order) = order else { continue };
            if order < 0.0 {
                return Err(format!("`{key}` cannot be {order}"));
            }
            set(slot, UploadSeq(order as u64), key)?;
        }
        Ok(())
    }

    fn add_match(&mut self, key: &str, value: MatchValue) -> Result<(), String> {
        let one_of = match value {
            MatchValue::Integer(stamp) if key == field::STAMP => return set(&mut self.stamp, stamp, key),
            MatchValue::Keyword(text) => vec![text],
            MatchValue::Keywords(texts) => texts.strings,
            other => return Err(format!("`{key}` cannot be matched with {other:?}")),
        };
        let bad = |text: &String| format!("`{text}` cannot be a value of `{key}`");
        match key {
            field::REPEAT_OF if one_of.len() == 1 => {
                set(&mut self.repeat_of, one_of[0].parse().map_err(|_| bad(&one_of[0]))?, key)
            }
            field::STATE if self.select.states.is_empty() => {
                let states = one_of.iter().map(|text| point::state(text).ok_or_else(|| bad(text)));
                self.select.states = states.collect::<Result<_, _>>()?;
                Ok(())
            }
            field::LABELS if self.select.labels.is_empty() => {
                let labels = one_of.iter().map(|text| Label::new(text.as_str()).map_err(|_| bad(text)));
                self.select.labels = labels.collect::<Result<_, _>>()?;
                Ok(())
            }
            field::ATTRIBUTES if one_of.len() == 1 => self.add_attribute(&one_of[0]),
            _ => Err(format!("`{key}` cannot be matched, or not again")),
        }
    }

    fn add_attribute(&mut self, text: &str) -> Result<(), String> {
        let [key, value]: [String; 2] =
            serde_json::from_str(text).map_err(|_| format!("`{text}` is not written [\"key\",\"value\"]"))?;
        let twice = format!("the attribute `{key}` is asked for twice");
        self.select.attributes.insert(key, value).map_or(Ok(()), |_| Err(twice))
    }
}

fn set<T>(slot: &mut Option<T>, value: T, key: &str) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("`{key}` is asked for twice")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dih_core::record::State;

    use super::*;
    use crate::contract::sample;

    #[test]
    fn what_is_asked_for_reads_back_from_its_filter() {
        let attributes = BTreeMap::from([("a.b=c".into(), "d=\"e\"".into()), ("empty".into(), String::new())]);
        let labels = vec![sample::label("größe \"M\" = 1.5"), sample::label("even")];
        let select = Select { states: vec![State::Held, State::Curated], labels, attributes };
        let whole = Asked {
            id: Some(sample::id(1)),
            stamp: Some(-5),
            repeat_of: Some(sample::id(2)),
            after: Some(UploadSeq(1 << 50)),
            until: Some(UploadSeq(1 << 51)),
            select: select.clone(),
        };
        let after = Among { after: Some(UploadSeq(0)), ..Among::states(&[State::Repeat]) };
        let until = Among { until: Some(UploadSeq(9)), ..Among::default() };
        for asked in [Asked::default(), whole, Asked::of(&select), Asked::among(after), Asked::among(until)] {
            assert_eq!(Asked::from_filter(asked.to_filter()).expect("is ours"), asked);
        }
    }

    #[test]
    fn what_is_asked_for_is_told_from_what_is_more() {
        let (select, among) = (Select::default(), Among { after: Some(UploadSeq(1)), ..Among::default() });
        let (stamped, repeats) = (Asked::stamped(sample::id(1), 2), Asked::repeats_of(sample::id(1)));
        assert_eq!(Asked::of(&select).to_select(), Some(&select));
        assert_eq!(Asked::among(among).to_among(), Some(among));
        assert_eq!(stamped.to_stamped(), Some((sample::id(1), 2)));
        assert_eq!(repeats.to_repeats_of(), Some(sample::id(1)));
        let more = Asked { after: among.after, ..stamped };
        let more = Asked { repeat_of: repeats.repeat_of, ..more };
        let none = (None, None, None, None);
        assert_eq!((more.to_select(), more.to_among(), more.to_stamped(), more.to_repeats_of()), none);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let refused = |filter: Filter| Asked::from_filter(Some(filter)).expect_err("is none of ours");
        let no_state = refused(Filter::must([Condition::matches(field::STATE, "lost".to_owned())]));
        assert!(no_state.contains("`lost` cannot be a value of `state`"), "{no_state}");
        let another = refused(Filter::must([Condition::matches("colour", "red".to_owned())]));
        assert!(another.contains("`colour`"), "{another}");
        refused(Filter::must_not([Condition::matches(field::STATE, "held".to_owned())]));
        refused(Filter::must([Condition::is_empty(field::LABELS)]));
        refused(Filter::must([Condition::range(field::ORDER, Range { lt: Some(1.0), ..Range::default() })]));
        refused(Filter::must([Condition::range(field::STAMP, Range { gt: Some(1.0), ..Range::default() })]));
        let twice = [Condition::matches(field::STAMP, 1), Condition::matches(field::STAMP, 2)];
        assert!(refused(Filter::must(twice)).contains("twice"));
    }
}
