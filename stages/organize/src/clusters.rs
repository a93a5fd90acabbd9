//! Groups of photos that look alike, from links between them. Pure.
//!
//! Takes  pairs of members with their cosine. Gives the group of each member.
//! Weak   at chains: single links join A to C through B though A and C differ. A group that grows past a share of the
//!        set is therefore linked again by a stricter cosine, step by step, until it falls apart or nothing but near
//!        copies hold it together. So one chain cannot pull the whole set into one split.

/// Two members and how much they look alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    pub a: u32,
    pub b: u32,
    pub cosine: f32,
}

/// The cosine at which a group that is too large is linked again: each step closes a fifth of the gap to 1.
const STRICTER: f32 = 0.8;
/// Past this cosine two photos are near copies, which must share a split whatever the size of the group.
const COPIES: f32 = 0.985;

/// Links as they are found, in bounded memory: only a spanning forest of the strongest is kept.
///
/// At every cosine the forest joins exactly the groups that all the links together join (single linkage is the
/// maximum spanning tree: Gower and Ross, Applied Statistics 18, 1969).
#[derive(Debug)]
pub struct Links {
    members: usize,
    held: Vec<Link>,
}

impl Links {
    pub fn among(members: usize) -> Self {
        Self { members, held: Vec::new() }
    }

    pub fn push(&mut self, link: Link) {
        self.held.push(link);
        // A forest has fewer links than members: what is held stays below a small multiple of that.
        if self.held.len() >= 4 * self.members + 100_000 {
            self.thin();
        }
    }

    /// At most one link fewer than there are members.
    pub fn into_forest(mut self) -> Vec<Link> {
        self.thin();
        self.held
    }

    fn thin(&mut self) {
        self.held.sort_by(|x, y| y.cosine.total_cmp(&x.cosine).then((x.a, x.b).cmp(&(y.a, y.b))));
        let mut parent: Vec<u32> = (0..self.members as u32).collect();
        self.held.retain(|link| {
            let (a, b) = (root(&mut parent, link.a), root(&mut parent, link.b));
            parent[a.max(b) as usize] = a.min(b);
            a != b
        });
    }
}

/// The group of every member, as the smallest index in it.
///
/// Links below `cosine_min` do not count. Groups of more than `members_max` members are split by stricter links. The
/// answer depends on the set of links only, not on their order.
pub fn groups(members: usize, links: &[Link], cosine_min: f32, members_max: usize) -> Vec<u32> {
    let mut roots = linked(members, links.iter().filter(|l| l.cosine >= cosine_min));
    let mut cosine = cosine_min;
    loop {
        cosine = 1.0 - (1.0 - cosine) * STRICTER;
        let sizes = sizes(&roots);
        let too_large = |member: u32| sizes[roots[member as usize] as usize] as usize > members_max.max(1);
        if cosine > COPIES || !roots.iter().any(|&root| too_large(root)) {
            return roots;
        }
        let stricter = linked(members, links.iter().filter(|l| l.cosine >= cosine && too_large(l.a) && too_large(l.b)));
        // A group that fits stays whole: no link that counted reaches from it into a group that is too large.
        let regroup = |i: u32| if too_large(i) { stricter[i as usize] } else { roots[i as usize] };
        roots = (0..members as u32).map(regroup).collect();
    }
}

fn linked<'a>(members: usize, links: impl Iterator<Item = &'a Link>) -> Vec<u32> {
    let mut parent: Vec<u32> = (0..members as u32).collect();
    for link in links {
        let (a, b) = (root(&mut parent, link.a), root(&mut parent, link.b));
        // The smaller index becomes the root, so the order of links does not show.
        parent[a.max(b) as usize] = a.min(b);
    }
    (0..members as u32).map(|i| root(&mut parent, i)).collect()
}

/// The root of `i`, halving the path on the way.
fn root(parent: &mut [u32], mut i: u32) -> u32 {
    while parent[i as usize] != i {
        parent[i as usize] = parent[parent[i as usize] as usize];
        i = parent[i as usize];
    }
    i
}

/// Members of each group, by root.
pub fn sizes(roots: &[u32]) -> Vec<u32> {
    let mut sizes = vec![0; roots.len()];
    for &root in roots {
        sizes[root as usize] += 1;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link(a: u32, b: u32, cosine: f32) -> Link {
        Link { a, b, cosine }
    }

    #[track_caller] // five members, linked from .90, at most three a group
    fn check(links: &[Link], want: [u32; 5]) {
        assert_eq!(groups(5, links, 0.9, 3), want);
    }

    #[test]
    fn links_join_and_weak_links_do_not() {
        check(&[link(0, 1, 0.95), link(3, 2, 0.9), link(1, 2, 0.89)], [0, 0, 2, 2, 4]);
    }

    #[test]
    fn a_chain_that_grows_too_long_breaks_at_its_weakest_links() {
        check(&[link(0, 1, 0.97), link(1, 2, 0.91), link(2, 3, 0.97), link(3, 4, 0.96)], [0, 0, 2, 2, 2]);
    }

    #[test]
    fn near_copies_stay_together_however_many() {
        let copies: Vec<Link> = (0..4).map(|i| link(i, i + 1, 0.995)).collect();
        check(&copies, [0; 5]);
    }

    proptest! {
        #[test]
        fn the_order_of_links_does_not_show(
            pairs in prop::collection::vec((0u32..40, 0u32..40, 0.85f32..1.0), 0..120),
            shift in 0usize..120,
        ) {
            let links: Vec<Link> = pairs.iter().map(|&(a, b, cosine)| Link { a, b, cosine }).collect();
            let mut turned: Vec<Link> = links.iter().map(|l| Link { a: l.b, b: l.a, ..*l }).collect();
            turned.rotate_left(shift.min(links.len()));
            let found = groups(40, &links, 0.9, 6);
            prop_assert_eq!(&found, &groups(40, &turned, 0.9, 6));
            let mut forest = Links::among(40);
            turned.iter().for_each(|link| forest.push(*link));
            prop_assert_eq!(&found, &groups(40, &forest.into_forest(), 0.9, 6));
            // Near copies are never apart, and every root is the smallest of its group.
            for l in links.iter().filter(|l| l.cosine > COPIES) {
                prop_assert_eq!(found[l.a as usize], found[l.b as usize]);
            }
            for (i, &root) in found.iter().enumerate() {
                prop_assert!(root as usize <= i && found[root as usize] == root);
            }
        }
    }
}
