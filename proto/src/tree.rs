//! Heads of the transparency log, and the proofs that tie leaves and heads together.
//!
//! The log is an append-only Merkle tree over SHA-256 (RFC 6962, section 2.1). Two heads that no
//! proof of consistency ties together, both signed by one coordinator, show that it has told two
//! histories. Proofs are verified by the crate `ct-merkle`; the coordinator makes them.

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use prost::Message as _;
use sha2::Sha256;

use crate::{
    Digest, OutOfRange, PublicKey, Signed, Signer,
    signed::{Purpose, SignatureError},
    wire,
};

/// Largest log that is believed, in leaves: far above what sites can fill, far below what
/// arithmetic on positions could overflow with.
const MOST_LEAVES: u64 = 1 << 48;

/// The log of all leaves, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Digest,
    /// When it was signed, in milliseconds since 1970 by the coordinator's clock.
    pub at: u64,
}

/// Why a tree head or a proof is not believed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TreeError {
    /// Not signed by whom it should be, or changed since.
    #[error("{what}: {source}")]
    Signature {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        source: SignatureError,
    },
    /// A field holds what it must not.
    #[error(transparent)]
    Malformed(#[from] OutOfRange),
    /// The proof does not lead from the leaf to the root.
    #[error("leaf {leaf} is not shown to be in the log of {size} leaves with root {root}")]
    NotIncluded {
        /// Position of the leaf.
        leaf: u64,
        /// Size of the log.
        size: u64,
        /// Its root.
        root: Digest,
    },
    /// The later head covers fewer leaves.
    #[error("the log had {kept} leaves and now shows {shown}: leaves were taken back")]
    Shrunk {
        /// Size of the earlier head.
        kept: u64,
        /// Size of the later one.
        shown: u64,
    },
    /// The later log does not begin with the earlier one.
    #[error(
        "the log of {kept} leaves with root {kept_root} is not shown to be the beginning of the \
         log of {shown} leaves with root {shown_root}: the past was rewritten"
    )]
    Rewritten {
        /// Size of the earlier head.
        kept: u64,
        /// Its root.
        kept_root: Digest,
        /// Size of the later head.
        shown: u64,
        /// Its root.
        shown_root: Digest,
    },
}

impl TreeHead {
    /// Signs it with the coordinator's identity key.
    pub fn sign(&self, coordinator: &Signer) -> Signed {
        let body = wire::TreeHeadBody {
            size: self.size,
            root: self.root.as_bytes().to_vec(),
            at: self.at,
        };
        coordinator.sign(Purpose::TreeHead, body.encode_to_vec())
    }

    /// Reads one that this coordinator signed.
    ///
    /// # Errors
    /// Another signer, changed bytes, fields out of range.
    pub fn open(signed: &Signed, coordinator: &PublicKey) -> Result<Self, TreeError> {
        let what = "head of the transparency log";
        let bytes = signed
            .verify(Purpose::TreeHead, coordinator)
            .map_err(|source| TreeError::Signature { what, source })?;
        let body = wire::TreeHeadBody::decode(bytes)
            .map_err(|error| OutOfRange::new(what, "well formed", error))?;
        if body.size > MOST_LEAVES {
            return Err(OutOfRange::new(what, "of at most 2^48 leaves", body.size).into());
        }
        Ok(Self {
            size: body.size,
            root: body.root.as_slice().try_into()?,
            at: body.at,
        })
    }

    /// Verifies that a leaf stands at this position of the log.
    ///
    /// # Errors
    /// The proof does not show it.
    pub fn verify_inclusion(
        &self,
        leaf: &[u8],
        position: u64,
        proof: &[Digest],
    ) -> Result<(), TreeError> {
        let refused = TreeError::NotIncluded {
            leaf: position,
            size: self.size,
            root: self.root,
        };
        let proof = InclusionProof::try_from_bytes(joined(proof)).map_err(|_| refused.clone())?;
        self.root_hash()
            .verify_inclusion(&leaf, position, &proof)
            .map_err(|_| refused)
    }

    /// Verifies that this log begins with an earlier one.
    ///
    /// # Errors
    /// The proof does not show it.
    pub fn verify_consistency(&self, earlier: &Self, proof: &[Digest]) -> Result<(), TreeError> {
        let (kept, shown) = (earlier.size, self.size);
        if shown < kept {
            return Err(TreeError::Shrunk { kept, shown });
        }
        if kept == 0 {
            return Ok(()); // every log begins with the empty one
        }
        let refused = TreeError::Rewritten {
            kept,
            kept_root: earlier.root,
            shown,
            shown_root: self.root,
        };
        let proof = ConsistencyProof::try_from_bytes(joined(proof)).map_err(|_| refused.clone())?;
        self.root_hash()
            .verify_consistency(&earlier.root_hash(), &proof)
            .map_err(|_| refused)
    }

    fn root_hash(&self) -> RootHash<Sha256> {
        RootHash::new((*self.root.as_bytes()).into(), self.size)
    }
}

/// The roots of a log as it grew: the first of the empty log, the last with all leaves.
pub fn roots(leaves: impl IntoIterator<Item = Vec<u8>>) -> Vec<Digest> {
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut roots = vec![Digest::plain(b"")];
    for leaf in leaves {
        tree.push(leaf);
        roots.push(<[u8; 32]>::from(*tree.root().as_bytes()).into());
    }
    roots
}

fn joined(proof: &[Digest]) -> Vec<u8> {
    proof.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// Reads the hashes of a proof.
///
/// # Errors
/// A hash that is none.
pub fn hashes(proof: Option<wire::Proof>) -> Result<Vec<Digest>, OutOfRange> {
    let hashes = proof.unwrap_or_default().hashes;
    hashes
        .iter()
        .map(|hash| hash.as_slice().try_into())
        .collect()
}

impl From<&[Digest]> for wire::Proof {
    fn from(hashes: &[Digest]) -> Self {
        let hashes = hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect();
        Self { hashes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        text.parse().expect("64 digits")
    }

    /// The first seven of the eight leaves that the reference implementation of Certificate
    /// Transparency tests with, and the roots it publishes for 3 and 7 of them.
    const LEAVES: [&[u8]; 7] = [
        b"",
        b"\0",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
    ];
    const ROOT_OF_3: &str = "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77";
    const ROOT_OF_7: &str = "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c";

    fn leaf_hash(leaf: &[u8]) -> Digest {
        Digest::plain(&[b"\0", leaf].concat())
    }

    fn node(left: Digest, right: Digest) -> Digest {
        Digest::plain(&[b"\x01", &left.as_bytes()[..], right.as_bytes()].concat())
    }

    fn head(size: u64, root: &str) -> TreeHead {
        let root = digest(root);
        TreeHead { size, root, at: 0 }
    }

    #[test]
    fn published_roots_are_met_and_proofs_by_hand_verify() {
        let hashes = LEAVES.map(leaf_hash);
        let [a, b, c, d, e, f, g] = hashes;
        let (ab, cd, ef) = (node(a, b), node(c, d), node(e, f));
        let (three, seven) = (head(3, ROOT_OF_3), head(7, ROOT_OF_7));
        assert_eq!(node(ab, c), three.root);
        let grown = roots(LEAVES.map(<[u8]>::to_vec));
        assert_eq!((grown[1], grown[2]), (a, ab));
        assert_eq!((grown[3], grown[7]), (three.root, seven.root));
        assert_eq!(node(node(ab, cd), node(ef, g)), seven.root);
        // RFC 6962, section 2.1.3: the paths of a tree of seven leaves.
        for (at, path) in [
            (0, vec![b, cd, node(ef, g)]),
            (3, vec![c, ab, node(ef, g)]),
            (4, vec![f, g, node(ab, cd)]),
            (6, vec![ef, node(ab, cd)]),
        ] {
            let leaf = LEAVES[at as usize];
            seven
                .verify_inclusion(leaf, at, &path)
                .expect("in the tree");
            assert!(seven.verify_inclusion(b"other", at, &path).is_err());
            assert!(seven.verify_inclusion(leaf, at + 1, &path).is_err());
            assert!(seven.verify_inclusion(leaf, at, &path[1..]).is_err());
            assert!(three.verify_inclusion(leaf, at, &path).is_err());
        }
        let proof = [c, d, ab, node(ef, g)];
        seven.verify_consistency(&three, &proof).expect("it grew");
        seven.verify_consistency(&seven, &[]).expect("the same");
        assert!(seven.verify_consistency(&three, &proof[1..]).is_err());
        assert!(
            seven
                .verify_consistency(&head(3, ROOT_OF_7), &proof)
                .is_err()
        );
        assert!(seven.verify_consistency(&head(7, ROOT_OF_3), &[]).is_err());
        assert_eq!(
            three.verify_consistency(&seven, &proof),
            Err(TreeError::Shrunk { kept: 7, shown: 3 })
        );
    }

    #[test]
    fn a_head_is_believed_of_its_signer_only_and_within_bounds() {
        let signer = || Signer::from_pkcs8(&Signer::generate().expect("randomness"));
        let (ours, other) = (signer().expect("a key"), signer().expect("a key"));
        let sound = head(3, ROOT_OF_3);
        let signed = sound.sign(&ours);
        assert_eq!(TreeHead::open(&signed, &ours.public_key()), Ok(sound));
        assert!(TreeHead::open(&signed, &other.public_key()).is_err());
        let absurd = TreeHead {
            size: u64::MAX,
            ..sound
        };
        let refused = TreeHead::open(&absurd.sign(&ours), &ours.public_key());
        assert!(
            matches!(refused, Err(TreeError::Malformed(_))),
            "{refused:?}"
        );
    }
}
