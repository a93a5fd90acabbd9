//! The contract of [`Index`].

mod records;
mod searches;

use std::sync::Arc;

use dih_core::{
    ImageId,
    event::VectorSpace,
    ports::{Index, Select},
    record::Record,
};

use self::{records::*, searches::*};
use super::{sample, sentences};

type Store = Arc<dyn Index>;

/// Numbers in a vector of the space that the suite uses.
pub const SPACE_NUMBERS: usize = 8;

/// The spaces that `make` must open its index with.
pub fn spaces() -> Vec<(VectorSpace, usize)> {
    vec![(space(), SPACE_NUMBERS)]
}

/// Tries every sentence on a fresh index with these [`spaces`].
pub async fn index(make: impl AsyncFn() -> Store) {
    sentences!(
        "index",
        make,
        a_claim_reads_back_as_it_was_made,
        the_first_claimer_stays,
        of_16_racing_claimers_one_stays_for_all,
        a_change_touches_only_its_fields,
        a_repeat_is_set_and_cleared,
        changes_of_16_racers_to_different_fields_are_all_kept,
        of_16_racers_from_one_state_one_wins,
        a_change_from_another_state_changes_nothing,
        an_epoch_begins_after_the_one_before_only,
        what_is_missing_cannot_change,
        votes_of_16_racers_are_all_kept,
        a_vote_given_twice_counts_once_and_the_holder_has_none,
        a_measure_that_is_no_number_is_refused_or_kept,
        repeats_are_found_by_their_original,
        a_count_equals_its_pages,
        a_facet_counts_what_is_selected,
        a_selection_holds_for_states_labels_and_attributes,
        a_page_is_complete_in_order_and_without_repeats_while_others_write,
        a_page_carries_vectors_when_asked,
        commits_of_many_callers_all_return,
    );
    sentences!(
        "index",
        make,
        a_fingerprint_is_found_at_once_within_the_radius_inclusive,
        each_query_has_a_radius_of_its_own,
        each_near_record_comes_once_with_its_nearest_query,
        near_fingerprints_keep_the_limit_and_the_order,
        near_fingerprints_of_other_states_take_no_place,
        near_fingerprints_are_searched_among_several_at_once,
        a_vector_is_found_by_the_next_search,
        of_two_racers_who_put_and_look_at_least_one_sees_the_other,
        the_vector_that_was_put_later_is_known,
        a_stored_vector_has_length_one_and_keeps_its_direction,
        a_second_vector_replaces_the_first,
        near_vectors_keep_the_least_cosine_the_states_the_limit_and_the_order,
        near_vectors_of_either_side_of_an_upload_are_told_apart,
        what_is_told_of_a_neighbour_is_as_in_its_record,
        a_vector_survives_changes_of_its_record,
        a_vector_without_direction_is_refused,
    );
}

fn space() -> VectorSpace {
    VectorSpace("contract-f32".into())
}

/// A vector at this angle, in degrees, from the first axis towards another one.
fn at(degrees: f32, towards: usize) -> Vec<f32> {
    let mut vector = vec![0.0; SPACE_NUMBERS];
    vector[0] = degrees.to_radians().cos();
    vector[towards] = degrees.to_radians().sin();
    vector
}

async fn claim(store: &Store, n: u64) -> Record {
    store.claim(&sample::record(n)).await.expect("claims")
}

async fn get(store: &Store, n: u64) -> Record {
    store.get(sample::id(n)).await.expect("reads").expect("is there")
}

/// All ids of a selection, page by page.
async fn walk(store: &Store, select: &Select, limit: usize) -> Vec<ImageId> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = store.page(select, after, limit, None).await.expect("pages");
        assert!(page.records.len() <= limit, "a page keeps its limit");
        ids.extend(page.records.iter().map(|(record, _)| record.id()));
        match page.next {
            Some(next) => after = Some(next),
            None => return ids,
        }
    }
}
