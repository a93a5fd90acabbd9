//! What speaks about a label besides the picture: who said it, who else said what, and a classifier's score.

use crate::LearningError;

/// One vote on what a member shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// Who voted, below the number of contributors; None where nobody knows.
    pub contributor: Option<u32>,
    pub labels: Vec<u32>,
}

/// One entry a member, in the order of the vectors.
#[derive(Clone, Debug, Default)]
pub struct Testimonies {
    contributors: usize,
    of: Vec<u32>,
    scores: Vec<f32>,
    /// Members on which more than one voted, ascending, with all votes.
    disputed: Vec<(u32, Vec<Vote>)>,
}

/// Votes of one member that are heard: more add nothing but the risk of being many copies of one opinion.
const VOTES_MAX: usize = 16;
const NOBODY: u32 = u32::MAX;

impl Testimonies {
    /// `contributors`: how many there are; they are numbered from 0.
    pub fn new(contributors: usize) -> Self {
        Self { contributors, ..Self::default() }
    }

    /// Adds the next member: who claimed its labels, the classifier's probability of them (None where it does not know
    /// them), and all votes, its own among them, where others voted too. Each contributor is heard once a member: the
    /// first vote counts, for a device that sends a photo twice has not looked twice.
    pub fn push(
        &mut self,
        contributor: Option<u32>,
        score: Option<f32>,
        votes: Vec<Vote>,
    ) -> Result<(), LearningError> {
        let named = votes.iter().map(|v| v.contributor).chain([contributor]).flatten();
        if let Some(bad) = named.into_iter().find(|c| *c as usize >= self.contributors) {
            let remedy = "pass numbers below the number of contributors";
            return Err(LearningError::Setting { what: "a contributor", value: bad.to_string(), remedy });
        }
        let member = self.of.len() as u32;
        self.of.push(contributor.unwrap_or(NOBODY));
        self.scores.push(score.filter(|s| s.is_finite()).unwrap_or(f32::NAN));
        let mut heard: Vec<Vote> = Vec::new();
        for vote in votes {
            let again = |held: &Vote| match (held.contributor, vote.contributor) {
                (Some(a), Some(b)) => a == b,
                // Who is unknown may be the same one again, unless it says something else.
                _ => held.labels == vote.labels,
            };
            if heard.len() < VOTES_MAX && !heard.iter().any(again) {
                heard.push(vote);
            }
        }
        if heard.len() > 1 {
            self.disputed.push((member, heard));
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.of.len()
    }

    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    pub(crate) fn contributors(&self) -> usize {
        self.contributors
    }

    pub(crate) fn contributor(&self, member: usize) -> Option<usize> {
        self.of.get(member).filter(|c| **c != NOBODY).map(|c| *c as usize)
    }

    pub(crate) fn score(&self, member: usize) -> Option<f32> {
        self.scores.get(member).copied().filter(|s| !s.is_nan())
    }

    /// All votes on a member; None where only one was heard.
    pub(crate) fn votes(&self, member: usize) -> Option<&[Vote]> {
        let at = self.disputed.binary_search_by_key(&(member as u32), |(m, _)| *m).ok()?;
        Some(&self.disputed[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(contributor: Option<u32>, label: u32) -> Vote {
        Vote { contributor, labels: vec![label] }
    }

    #[test]
    fn who_votes_twice_is_heard_once() {
        let mut all = Testimonies::new(3);
        all.push(Some(0), None, vec![vote(Some(0), 1), vote(Some(0), 2), vote(None, 1)]).expect("known");
        all.push(Some(0), None, vec![vote(Some(0), 1), vote(Some(2), 1), vote(None, 7)]).expect("known");
        assert_eq!(all.votes(0), None, "an unknown voice that says the same may be the same");
        assert_eq!(all.votes(1).map(<[_]>::len), Some(3));
        assert!(all.push(Some(3), None, Vec::new()).is_err());
    }
}
