//! Finds what is nearly the same among very many, without comparing all pairs.
//!
//! Each thing stands in a few buckets; only things that meet in a bucket are compared, and what is
//! alike joins one group. In a set where most things are alike the buckets are long. So a thing looks
//! only at the latest others of a bucket, the fewer the more things there are ([`LOOKS`]), and compares itself
//! closely with no more than [`MOST_COMPARED`]: whoever stands in a series is near its copies. Beyond
//! that a pair may be missed, but time stays linear.

use std::collections::{BTreeMap, HashMap};

/// Looks of all things together at one bucket each: 5,000 things see all others, 100,000 the latest 256.
const LOOKS: usize = 25_600_000;
/// Others in one bucket that a thing may always look at.
const ALWAYS_SEEN: usize = 256;
/// Others that a thing is compared with closely and is not like.
const MOST_COMPARED: usize = 256;

/// What can be compared.
pub(super) trait Likeness {
    /// The buckets that hold it.
    fn buckets(&self) -> impl Iterator<Item = u64>;
    /// The buckets in which it looks for others.
    fn probes(&self) -> impl Iterator<Item = u64>;
    /// Whether a close look is worth it. Cheap.
    fn may_be_like(&self, other: &Self) -> bool;
    /// The difference, if they are alike.
    fn difference(&self, other: &Self) -> Option<f64>;
}

/// Things that are alike, each like another one of the group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// Their places in the list, ascending; at least two.
    pub(super) members: Vec<usize>,
    /// The largest difference over which two of them were joined.
    pub(super) farthest: f64,
}

/// Groups what is alike, in the order of the first member.
pub(super) fn groups<T: Likeness>(things: &[T]) -> Vec<Group> {
    let mut sets = Sets::new(things.len());
    let mut buckets: HashMap<u64, Vec<u32>> = HashMap::new();
    let most_seen = (LOOKS / things.len().max(1)).max(ALWAYS_SEEN);
    for (at, thing) in things.iter().enumerate() {
        let mut compared = 0;
        'probes: for probe in thing.probes() {
            let bucket = buckets.get(&probe).into_iter().flatten();
            for &other in bucket.rev().take(most_seen) {
                if compared == MOST_COMPARED {
                    break 'probes;
                }
                let other = other as usize;
                if !thing.may_be_like(&things[other]) || sets.root(other) == sets.root(at) {
                    continue;
                }
                match thing.difference(&things[other]) {
                    Some(difference) => sets.join(other, at, difference),
                    None => compared += 1,
                }
            }
        }
        // More than 2^32 records do not fit one site's memory.
        if let Ok(at) = u32::try_from(at) {
            for bucket in thing.buckets() {
                buckets.entry(bucket).or_default().push(at);
            }
        }
    }
    sets.into_groups()
}

/// Sets that only grow together (union-find).
struct Sets {
    parents: Vec<usize>,
    farthest: Vec<f64>,
}

impl Sets {
    fn new(len: usize) -> Self {
        Self {
            parents: (0..len).collect(),
            farthest: vec![0.0; len],
        }
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.parents[at] != at {
            self.parents[at] = self.parents[self.parents[at]];
            at = self.parents[at];
        }
        at
    }

    fn join(&mut self, one: usize, other: usize, difference: f64) {
        let (one, other) = (self.root(one), self.root(other));
        let (first, second) = (one.min(other), one.max(other));
        self.parents[second] = first;
        let farthest = self.farthest[first].max(self.farthest[second]);
        self.farthest[first] = farthest.max(difference);
    }

    fn into_groups(mut self) -> Vec<Group> {
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in 0..self.parents.len() {
            let root = self.root(at);
            members.entry(root).or_default().push(at);
        }
        let farthest = self.farthest;
        let several = members.into_iter().filter(|(_, members)| members.len() > 1);
        several
            .map(|(root, members)| Group {
                members,
                farthest: farthest[root],
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number in one bucket with all numbers; near when it is within 1.
    struct Number(u32);

    impl Likeness for Number {
        fn buckets(&self) -> impl Iterator<Item = u64> {
            std::iter::once(0)
        }
        fn probes(&self) -> impl Iterator<Item = u64> {
            std::iter::once(0)
        }
        fn may_be_like(&self, _: &Self) -> bool {
            true
        }
        fn difference(&self, other: &Self) -> Option<f64> {
            let difference = self.0.abs_diff(other.0);
            (difference <= 1).then_some(f64::from(difference))
        }
    }

    fn groups_of(numbers: impl IntoIterator<Item = u32>) -> Vec<Group> {
        groups(&numbers.into_iter().map(Number).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_alike_joins_and_what_stands_alone_is_no_group() {
        let found = groups_of([5, 90, 7, 30, 6, 90]);
        let group = |members: &[usize], farthest| Group {
            members: members.to_vec(),
            farthest,
        };
        assert_eq!(found, [group(&[0, 2, 4], 1.0), group(&[1, 5], 0.0)]);
        assert!(groups_of([]).is_empty() && groups_of([1]).is_empty());
    }

    #[test]
    fn many_that_are_not_alike_in_one_bucket_do_not_take_quadratic_time() {
        // 40,000 in one bucket: all pairs would be 8 * 10^8 close looks.
        let numbers = (0..40_000).map(|at| 10 * at).chain([399_990]);
        let found = groups_of(numbers);
        assert_eq!(found.len(), 1, "the latest are looked at first");
    }
}
