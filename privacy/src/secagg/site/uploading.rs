//! The one vector of an attempt: masked, and never masked again.

use std::{collections::BTreeMap, fmt, ops::Range};

use super::{Voice, answering::Uploaded, dealing::Held};
use crate::secagg::{
    SiteId,
    encoding::{Encoded, Words},
    generator::{self, Mask, Role, Sign},
    message::{Echo, LENGTH, Secret, Trailer},
    signature::Body,
};

/// Holds all masks, and waits for the vector.
pub(super) struct Ready {
    self_mask: Secret,
    /// Seed of the mask with each dealer.
    edges: BTreeMap<SiteId, Secret>,
    held: BTreeMap<SiteId, Held>,
    dealers: [u8; LENGTH],
    echoes: Vec<Echo>,
}

impl Ready {
    pub(super) fn new(
        self_mask: Secret,
        edges: BTreeMap<SiteId, Secret>,
        held: BTreeMap<SiteId, Held>,
        dealers: [u8; LENGTH],
        echoes: Vec<Echo>,
    ) -> Self {
        Self {
            self_mask,
            edges,
            held,
            dealers,
            echoes,
        }
    }

    /// Masks the vector in place. The masks are gone with `self`.
    pub(super) fn upload(
        self,
        voice: &Voice,
        vector: Encoded,
    ) -> (Uploaded, MaskedVector, Vec<u8>) {
        let context = voice.terms.context();
        let own = Mask::new(context, &self.self_mask, Role::Own, Sign::Plus);
        let pairs = self
            .edges
            .iter()
            .map(|(peer, seed)| Mask::new(context, seed, Role::Pair, sign_of(voice.me, *peer)));
        let masks: Vec<_> = pairs.chain([own]).collect();
        let mut words = vector.take_words();
        generator::apply(&masks, 0, &mut words);
        let vector = MaskedVector::new(words);
        let trailer = Trailer {
            from: voice.me,
            length: voice.terms.bytes(),
            upload: vector.digest,
            peers: self.dealers,
            echoes: self.echoes,
        }
        .sign(context, &*voice.signer);
        let uploaded = Uploaded::new(self.held, self.dealers, vector.digest);
        (uploaded, vector, trailer)
    }
}

/// The end with the lower number adds the mask, the other subtracts it.
pub(in crate::secagg) fn sign_of(site: SiteId, peer: SiteId) -> Sign {
    match site < peer {
        true => Sign::Plus,
        false => Sign::Minus,
    }
}

/// A vector under all its masks: uniform to whoever lacks one of them.
#[derive(Clone, PartialEq, Eq)]
pub struct MaskedVector {
    words: Words,
    digest: [u8; LENGTH],
}

impl MaskedVector {
    fn new(words: Words) -> Self {
        let digest = words.digest();
        Self { words, digest }
    }

    /// Words in it.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> &[u8; LENGTH] {
        &self.digest
    }

    /// The bytes of some of its words, as they travel. Nothing for a range outside.
    pub fn bytes(&self, words: Range<usize>) -> Vec<u8> {
        self.words.bytes(words)
    }
}

impl fmt::Debug for MaskedVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaskedVector({} words)", self.words.len())
    }
}
