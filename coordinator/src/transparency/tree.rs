//! The Merkle tree over the leaves, and proofs for every size it ever had (RFC 6962, section 2.1).
//!
//! Roots of whole subtrees are kept, level by level: twice the memory of the leaves' hashes, and a
//! proof costs a few dozen hashes at any size. Which nodes a proof needs is `ct-merkle`'s answer,
//! in the numbering of RFC 9420, appendix C.

use consilium_proto::Digest;
use ct_merkle::{indices_for_consistency_proof, indices_for_inclusion_proof};

/// An append-only Merkle tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// `levels[k][i]` is the root over the leaves from `i * 2^k` up to `(i + 1) * 2^k`.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// Number of leaves.
    pub(super) fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends a leaf.
    pub(super) fn push(&mut self, leaf: &[u8]) {
        let mut hash = Digest::plain(&[&[0], leaf].concat());
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(vec![]);
            }
            let row = &mut self.levels[level];
            row.push(hash);
            let [.., left, right] = row[..] else { return };
            if row.len() % 2 == 1 {
                return;
            }
            hash = node(left, right);
        }
    }

    /// Its root as it is now; the digest of nothing without leaves.
    pub(super) fn root(&self) -> Digest {
        match self.size() {
            0 => Digest::plain(b""),
            size => self.over(0, size),
        }
    }

    /// From a leaf to the root of the tree of this size; none if there is no such leaf or tree.
    pub(super) fn inclusion(&self, leaf: u64, size: u64) -> Option<Vec<Digest>> {
        (leaf < size && size <= self.size()).then(|| {
            let nodes = indices_for_inclusion_proof(size, leaf);
            self.nodes(nodes, size)
        })
    }

    /// From the tree of one size to that of another; none if they are not there. Every tree begins
    /// with the empty one, without proof.
    pub(super) fn consistency(&self, from: u64, to: u64) -> Option<Vec<Digest>> {
        if from > to || to > self.size() {
            return None;
        }
        if from == 0 {
            return Some(vec![]);
        }
        let nodes = indices_for_consistency_proof(from, to - from);
        Some(self.nodes(nodes, to))
    }

    fn nodes(&self, indices: Vec<u64>, size: u64) -> Vec<Digest> {
        let at = |index: u64| {
            let level = index.trailing_ones();
            let from = (index >> (level + 1)) << level;
            self.over(from, (from + (1 << level)).min(size))
        };
        indices.into_iter().map(at).collect()
    }

    /// The root over a range of leaves that is one node of some tree.
    fn over(&self, from: u64, to: u64) -> Digest {
        let width = to - from;
        if width.is_power_of_two() {
            let level = width.trailing_zeros();
            return self.levels[level as usize][(from >> level) as usize];
        }
        let left = 1 << width.ilog2();
        node(self.over(from, from + left), self.over(from + left, to))
    }
}

fn node(left: Digest, right: Digest) -> Digest {
    Digest::plain(&[&[1], &left.as_bytes()[..], right.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use consilium_proto::TreeHead;

    use super::*;

    fn leaf(number: u64) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    fn tree(size: u64) -> Tree {
        let mut tree = Tree::default();
        (0..size).for_each(|number| tree.push(&leaf(number)));
        tree
    }

    fn head(size: u64) -> TreeHead {
        let root = tree(size).root();
        TreeHead { size, root, at: 0 }
    }

    /// The definition, word for word.
    fn by_definition(from: u64, to: u64) -> Digest {
        match to - from {
            0 => Digest::plain(b""),
            1 => Digest::plain(&[&[0], &leaf(from)[..]].concat()),
            width => {
                let mut left = 1;
                while 2 * left < width {
                    left *= 2;
                }
                node(
                    by_definition(from, from + left),
                    by_definition(from + left, to),
                )
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        for size in 0..70 {
            assert_eq!(tree(size).root(), by_definition(0, size), "{size} leaves");
        }
    }

    #[test]
    fn every_leaf_of_every_size_is_proved_by_a_tree_that_has_grown() {
        let grown = tree(40);
        for size in 1..=40 {
            for at in 0..size {
                let proof = grown.inclusion(at, size).expect("it is there");
                head(size)
                    .verify_inclusion(&leaf(at), at, &proof)
                    .expect("sound");
                assert!(
                    head(size)
                        .verify_inclusion(&leaf(at + 1), at, &proof)
                        .is_err()
                );
            }
        }
        assert_eq!(grown.inclusion(3, 3), None);
        assert_eq!(grown.inclusion(40, 41), None);
    }

    #[test]
    fn every_size_is_the_beginning_of_every_later_one() {
        let grown = tree(40);
        for to in 0..=40 {
            for from in 0..=to {
                let proof = grown.consistency(from, to).expect("both are there");
                head(to)
                    .verify_consistency(&head(from), &proof)
                    .expect("sound");
                let mut other = head(from);
                other.root = Digest::plain(b"other");
                let refused = head(to).verify_consistency(&other, &proof);
                assert_eq!(refused.is_err(), from > 0, "{from} to {to}");
            }
        }
        assert_eq!(grown.consistency(5, 4), None);
        assert_eq!(grown.consistency(5, 41), None);
    }
}
