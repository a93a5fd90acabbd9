//! The members of a data set as the models see them: rows of numbers, labels as indices, neighbours as indices.

use crate::LearningError;

/// Rows of equal length, read front to back as often as asked. Callers may map a file, so rows need not fit in memory.
///
/// Rows need not be normalised; a row that is zero or not finite is left out of every model.
pub trait Vectors {
    /// Number of rows.
    fn len(&self) -> usize;
    /// Numbers a row.
    fn dim(&self) -> usize;
    /// Calls `each` with the index of the first row and whole rows one after the other, in order, every row once.
    fn for_each_chunk(&self, rows_max: usize, each: &mut dyn FnMut(usize, &[f32])) -> Result<(), LearningError>;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Vectors that lie in memory (or in a mapped file), row after row.
#[derive(Clone, Copy, Debug)]
pub struct Slab<'a> {
    dim: usize,
    values: &'a [f32],
}

impl<'a> Slab<'a> {
    pub fn new(dim: usize, values: &'a [f32]) -> Result<Self, LearningError> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            let wanted = values.len().div_ceil(dim.max(1)) * dim;
            return Err(LearningError::Mismatch { what: "the slab of vectors", found: values.len(), wanted });
        }
        Ok(Self { dim, values })
    }
}

impl Vectors for Slab<'_> {
    fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn for_each_chunk(&self, rows_max: usize, each: &mut dyn FnMut(usize, &[f32])) -> Result<(), LearningError> {
        let rows = rows_max.max(1);
        for (i, chunk) in self.values.chunks(rows * self.dim).enumerate() {
            each(i * rows, chunk);
        }
        Ok(())
    }
}

/// Which labels each member claims: indices below the number of labels, in the order of the vectors.
#[derive(Clone, Debug)]
pub struct LabelTable {
    labels: usize,
    starts: Vec<usize>,
    claims: Vec<u32>,
    groups: Vec<u64>,
}

impl LabelTable {
    pub fn new(labels: usize) -> Self {
        Self { labels, starts: vec![0], claims: Vec::new(), groups: Vec::new() }
    }

    /// Adds the next member. Members of one `group` are judged by models that saw none of them: pass the cluster's id,
    /// so that look-alikes cannot vouch for each other, or the image's own. Repeated labels count once; an index that
    /// is no label is refused.
    pub fn push(&mut self, group: &[u8; 16], claims: &[u32]) -> Result<(), LearningError> {
        if let Some(bad) = claims.iter().find(|c| **c as usize >= self.labels) {
            let remedy = "pass indices below the number of labels the table was made for";
            return Err(LearningError::Setting { what: "a label index", value: bad.to_string(), remedy });
        }
        let start = self.claims.len();
        self.claims.extend_from_slice(claims);
        self.claims[start..].sort_unstable();
        let mut kept = start;
        for i in start..self.claims.len() {
            if kept == start || self.claims[kept - 1] != self.claims[i] {
                self.claims[kept] = self.claims[i];
                kept += 1;
            }
        }
        self.claims.truncate(kept);
        self.starts.push(kept);
        self.groups.push(mix(group));
        Ok(())
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Number of labels.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// What a member claims, ascending, each once.
    pub fn of(&self, member: usize) -> &[u32] {
        &self.claims[self.span(member)]
    }

    /// Where a member's claims lie in a list over all claims, such as [`crate::SecondLook::claims`].
    pub fn span(&self, member: usize) -> std::ops::Range<usize> {
        self.starts[member]..self.starts[member + 1]
    }

    /// Number of claims of all members together.
    pub fn claims(&self) -> usize {
        self.claims.len()
    }

    /// The fold a member is judged in: a hash of its group, so it depends on no order and on no other member.
    pub(crate) fn fold(&self, member: usize, folds: usize) -> usize {
        (self.groups[member] % folds.max(1) as u64) as usize
    }
}

/// The k nearest neighbours of every member, by index, the member itself not among them.
#[derive(Clone, Debug)]
pub struct Neighbours {
    k: usize,
    indices: Vec<u32>,
    cosines: Vec<f32>,
}

impl Neighbours {
    /// Stands where a member has fewer than k neighbours.
    pub const NONE: u32 = u32::MAX;

    pub fn new(k: usize) -> Self {
        Self { k: k.max(1), indices: Vec::new(), cosines: Vec::new() }
    }

    /// Adds the next member's neighbours (index and cosine), nearest first; what is beyond k is cut off.
    pub fn push(&mut self, nearest: &[(u32, f32)]) {
        let given = nearest.iter().copied().chain(std::iter::repeat((Self::NONE, 0.0)));
        for (index, cosine) in given.take(self.k) {
            self.indices.push(index);
            self.cosines.push(cosine);
        }
    }

    pub fn len(&self) -> usize {
        self.indices.len() / self.k
    }

    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Index and cosine of those that are there, nearest first.
    pub(crate) fn of(&self, member: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let span = member * self.k..(member + 1) * self.k;
        let pairs = self.indices[span.clone()].iter().zip(&self.cosines[span]);
        pairs.filter(move |(i, _)| **i != Self::NONE && **i as usize != member).map(|(i, c)| (*i as usize, *c))
    }
}

/// FNV-1a with the finish of SplitMix64 (Steele et al. 2014): neighbouring ids land in unrelated folds.
fn mix(bytes: &[u8; 16]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let a = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}
