//! Many short lists of equal length, in large pages of memory where there are any: what lies scattered among gigabytes is
//! found with fewer looks at where it lies.
//!
//! How      chunks of memory that the kernel is asked to put into large pages (`MADV_HUGEPAGE`, which works where
//!          `/sys/kernel/mm/transparent_hugepage/enabled` is `madvise` or `always`; elsewhere pages are small).
//! Memory   a chunk is made room for at once; what is not used of it takes none, but for the last page.

use std::{any::type_name, fmt, hint::black_box, marker::PhantomData, ops::BitXor};

use bytemuck::Pod;
use memmap2::{Advice, MmapMut};

/// Bytes of a chunk, at most, unless one list takes more.
const CHUNK_BYTES: usize = 16 << 20;

/// Bytes of a line of the cache.
const LINE_BYTES: usize = 64;

/// Lists of so many numbers each, by their place.
pub(super) struct Lists<T> {
    numbers: usize,
    /// Lists in a chunk, as a power of 2.
    chunk_bits: u32,
    chunks: Vec<MmapMut>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Lists<T> {
    pub(super) fn of(numbers: usize) -> Self {
        let fit = CHUNK_BYTES / (numbers * size_of::<T>()).max(1);
        Self { numbers, chunk_bits: fit.max(1).ilog2(), chunks: Vec::new(), len: 0, of: PhantomData }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One more, of zeros.
    pub(super) fn push(&mut self) -> &mut [T] {
        let at = self.len;
        if at >> self.chunk_bits == self.chunks.len() {
            let bytes = (self.numbers * size_of::<T>()) << self.chunk_bits;
            let chunk = MmapMut::map_anon(bytes.max(1)).expect("there is memory left");
            let _ = chunk.advise(Advice::HugePage); // it goes without, too
            self.chunks.push(chunk);
        }
        self.len += 1;
        self.get_mut(at)
    }

    pub(super) fn get(&self, at: usize) -> &[T] {
        let from = self.within(at);
        &bytemuck::cast_slice(&self.chunks[at >> self.chunk_bits])[from..from + self.numbers]
    }

    pub(super) fn get_mut(&mut self, at: usize) -> &mut [T] {
        let from = self.within(at);
        &mut bytemuck::cast_slice_mut(&mut self.chunks[at >> self.chunk_bits])[from..from + self.numbers]
    }

    /// Has these lists come from memory all at once, before the first is looked at: one after the other they are waited for.
    pub(super) fn fetch(&self, places: impl IntoIterator<Item = usize>)
    where
        T: BitXor<Output = T>,
    {
        let mut all = T::zeroed();
        for at in places {
            let each_line = self.get(at).iter().step_by((LINE_BYTES / size_of::<T>()).max(1));
            each_line.for_each(|number| all = all ^ *number);
        }
        black_box(all);
    }

    /// Where in its chunk a list begins.
    fn within(&self, at: usize) -> usize {
        (at & ((1 << self.chunk_bits) - 1)) * self.numbers
    }
}

impl<T> fmt::Debug for Lists<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lists of {} {}", self.len, self.numbers, type_name::<T>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_any_chunk_are_found() {
        let numbers = CHUNK_BYTES / size_of::<u32>() / 2;
        for numbers in [1, 3, numbers, numbers + 1, 3 * numbers] {
            let mut lists = Lists::<u32>::of(numbers);
            for at in 0..5 {
                assert_eq!(lists.push().last(), Some(&0));
                lists.get_mut(at)[numbers - 1] = at as u32 + 1;
            }
            assert_eq!(lists.len(), 5);
            for at in 0..5 {
                let list = lists.get(at);
                assert_eq!((list.len(), list[numbers - 1]), (numbers, at as u32 + 1));
            }
        }
    }
}
