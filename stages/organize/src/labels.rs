//! What a photo shows, by the votes of all who sent it. Pure.
//!
//! Takes  the labels that each upload of one photo gave: its own, and those of every repeat of it.
//! Gives  the labels most of them agree on, the most agreed first.
//! Weak   at a photo that two uploads label differently: there is no majority, so the earlier one is believed and the
//!        second look at the vectors must find the error.

use std::collections::BTreeMap;

use dih_core::{Label, UploadSeq};

/// One vote an upload: a map, so that a vote that is read twice counts once.
pub type Votes = BTreeMap<UploadSeq, Vec<Label>>;

/// The labels of a photo and how far its voters agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Consensus {
    /// Agreed labels; the first is the primary one, after which the photo is filed. Empty only if nobody named any.
    pub labels: Vec<Label>,
    /// Uploads that voted.
    pub voters: u32,
    /// Uploads among them that named the primary label.
    pub agreeing: u32,
}

/// The labels that more than half of the voters name; of an even split, those that the earliest upload names.
///
/// Where no label gets that far, the one with most votes stands alone. Ties go to the earliest upload, and within one
/// upload to the label it names first.
pub fn consensus(votes: &Votes) -> Consensus {
    let voters = votes.len() as u32;
    let earliest = votes.keys().next();
    let mut ranked: Vec<Standing> = standings(votes).into_values().collect();
    ranked.sort_by_key(|s| (std::cmp::Reverse(s.votes), s.first));

    let agreed = |s: &&Standing| s.votes * 2 > voters || (s.votes * 2 == voters && Some(&s.first.0) == earliest);
    let mut labels: Vec<Label> = ranked.iter().filter(agreed).map(|s| s.label.clone()).collect();
    if labels.is_empty() {
        labels.extend(ranked.first().map(|s| s.label.clone()));
    }
    let agreeing = ranked.first().map_or(0, |s| s.votes);
    Consensus { labels, voters, agreeing }
}

struct Standing<'a> {
    label: &'a Label,
    votes: u32,
    /// Earliest upload that named it, and at which place.
    first: (UploadSeq, usize),
}

fn standings(votes: &Votes) -> BTreeMap<&Label, Standing<'_>> {
    let mut standings = BTreeMap::new();
    for (&upload, labels) in votes {
        for (place, label) in labels.iter().enumerate().filter(|(i, label)| !labels[..*i].contains(label)) {
            let first = (upload, place);
            standings.entry(label).or_insert(Standing { label, votes: 0, first }).votes += 1;
        }
    }
    standings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str) -> Label {
        Label::new(name).expect("a valid label")
    }

    #[track_caller] // votes are (upload, "labels joined by ;"), the answer is written the same way
    fn check(votes: &[(u64, &str)], want: &str) {
        let parse = |s: &str| s.split(';').filter(|l| !l.is_empty()).map(label).collect::<Vec<_>>();
        let votes = votes.iter().map(|(upload, labels)| (UploadSeq(*upload), parse(labels))).collect();
        assert_eq!(consensus(&votes).labels, parse(want));
    }

    #[test]
    fn a_single_upload_is_believed_in_its_own_order() {
        check(&[(1, "shirt;blouse")], "shirt;blouse");
    }

    #[test]
    fn the_majority_outvotes_the_first_upload() {
        check(&[(1, "hat"), (2, "shoe"), (3, "shoe")], "shoe");
    }

    #[test]
    fn a_tie_goes_to_the_earliest_upload() {
        check(&[(2, "shoe"), (1, "hat")], "hat");
        check(&[(1, "hat"), (2, "shoe"), (3, "bag")], "hat");
    }

    #[test]
    fn of_several_labels_only_the_agreed_ones_stay() {
        check(&[(1, "shirt;blue"), (2, "shirt;red"), (3, "shirt")], "shirt");
        check(&[(1, "shirt"), (2, "shirt;blue"), (3, "blue;shirt")], "shirt;blue");
    }

    #[test]
    fn a_label_named_twice_by_one_upload_is_one_vote() {
        check(&[(1, "hat"), (2, "shoe;shoe;shoe")], "hat");
    }

    #[test]
    fn no_vote_gives_no_label() {
        check(&[], "");
    }

    #[test]
    fn agreement_is_counted_for_the_primary_label() {
        let votes = [(1, "hat"), (2, "shoe"), (3, "shoe")].map(|(u, l)| (UploadSeq(u), vec![label(l)])).into();
        let found = consensus(&votes);
        assert_eq!((found.voters, found.agreeing), (3, 2));
    }
}
