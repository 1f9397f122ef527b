//! A ledger's head, and the receipt that a site keeps for it.
//!
//! [`Receipt::from_bytes`] and [`Receipt::verify`] need nothing but the bytes and the
//! coordinator's key: an auditor runs them offline. A receipt shows that the coordinator had
//! logged this head, and that its log went on from the one the site had seen before. It does not
//! show that others see the same log: that takes two who compare tree heads.

use prost::Message as _;

use crate::{
    Digest, OutOfRange, PublicKey, Signed, Signer, SiteId, TreeHead,
    round_spec::required,
    signed::Purpose,
    tree::{TreeError, hashes},
    wire,
};

/// How far a site's ledger has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerHead {
    /// Whose ledger it is.
    pub site: SiteId,
    /// Public key of the ledger.
    pub ledger: [u8; 32],
    /// Position of the newest entry, from 1.
    pub sequence: u64,
    /// Hash of that entry.
    pub entry_hash: Digest,
}

impl LedgerHead {
    /// Signs it with the site's identity key.
    pub fn sign(&self, site: &Signer) -> Signed {
        let body = wire::LedgerHeadBody {
            site: self.site.0.0.into(),
            ledger: self.ledger.to_vec(),
            sequence: self.sequence,
            entry_hash: self.entry_hash.as_bytes().to_vec(),
        };
        site.sign(Purpose::LedgerHead, body.encode_to_vec())
    }

    /// Reads one that this site signed.
    ///
    /// # Errors
    /// Another signer, changed bytes, fields out of range.
    pub fn open(signed: &Signed, site: &PublicKey) -> Result<Self, TreeError> {
        let what = "head of a ledger";
        let bytes = signed
            .verify(Purpose::LedgerHead, site)
            .map_err(|source| TreeError::Signature { what, source })?;
        let body = wire::LedgerHeadBody::decode(bytes)
            .map_err(|error| OutOfRange::new(what, "well formed", error))?;
        let ledger = Digest::try_from(body.ledger.as_slice())?;
        // SQLite counts in signed numbers; no ledger comes near.
        if body.sequence == 0 || i64::try_from(body.sequence).is_err() {
            return Err(OutOfRange::new("sequence", "1 to 2^63 - 1", body.sequence).into());
        }
        Ok(Self {
            site: body.site.try_into()?,
            ledger: *ledger.as_bytes(),
            sequence: body.sequence,
            entry_hash: body.entry_hash.as_slice().try_into()?,
        })
    }
}

/// The coordinator's word that a ledger's head is in its log for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The head, as the site signed it. Its bytes are the leaf.
    pub head: Signed,
    /// Position of the leaf, from 0.
    pub leaf: u64,
    /// Head of the log that holds the leaf, signed by the coordinator.
    pub tree_head: Signed,
    /// From the leaf to the root.
    pub inclusion: Vec<Digest>,
    /// The newest tree head that the site had kept before; none at its first receipt.
    pub earlier: Option<Signed>,
    /// From the earlier tree head to this one.
    pub consistency: Vec<Digest>,
}

/// What a receipt says, once it was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How far the ledger had come.
    pub head: LedgerHead,
    /// Who signed that. The caller compares it with the roster's key of the site.
    pub site_key: PublicKey,
    /// The log that holds it.
    pub tree_head: TreeHead,
    /// The log that the site had seen before.
    pub earlier: Option<TreeHead>,
}

impl Receipt {
    /// Verifies the head's own signature, the coordinator's, that the leaf is in the log and that
    /// the log began with the earlier one.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self, coordinator: &PublicKey) -> Result<Verified, TreeError> {
        let site_key = *self.head.signer();
        let head = LedgerHead::open(&self.head, &site_key)?;
        let tree_head = TreeHead::open(&self.tree_head, coordinator)?;
        tree_head.verify_inclusion(&self.head.to_bytes(), self.leaf, &self.inclusion)?;
        let earlier = self.earlier.as_ref();
        let earlier = earlier.map(|signed| TreeHead::open(signed, coordinator));
        let earlier = earlier.transpose()?;
        if let Some(earlier) = &earlier {
            tree_head.verify_consistency(earlier, &self.consistency)?;
        }
        Ok(Verified {
            head,
            site_key,
            tree_head,
            earlier,
        })
    }

    /// The whole as bytes, for stores and exports.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::Receipt::from(self.clone()).encode_to_vec()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. Does not verify.
    ///
    /// # Errors
    /// Bytes that are no receipt.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OutOfRange> {
        wire::Receipt::decode(bytes)
            .map_err(|error| OutOfRange::new("receipt", "well formed", error))?
            .try_into()
    }
}

impl From<Receipt> for wire::Receipt {
    fn from(receipt: Receipt) -> Self {
        Self {
            head: Some(receipt.head.into()),
            leaf: receipt.leaf,
            tree_head: Some(receipt.tree_head.into()),
            inclusion: Some(receipt.inclusion.as_slice().into()),
            earlier: receipt.earlier.map(Into::into),
            consistency: Some(receipt.consistency.as_slice().into()),
        }
    }
}

impl TryFrom<wire::Receipt> for Receipt {
    type Error = OutOfRange;
    fn try_from(wire: wire::Receipt) -> Result<Self, OutOfRange> {
        Ok(Self {
            head: required("head", wire.head)?.try_into()?,
            leaf: wire.leaf,
            tree_head: required("tree head", wire.tree_head)?.try_into()?,
            inclusion: hashes(wire.inclusion)?,
            earlier: wire.earlier.map(TryInto::try_into).transpose()?,
            consistency: hashes(wire.consistency)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemberId;

    fn signer() -> Signer {
        Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a fresh key")
    }

    fn head(sequence: u64) -> LedgerHead {
        LedgerHead {
            site: SiteId(MemberId(3)),
            ledger: [5; 32],
            sequence,
            entry_hash: Digest::plain(&sequence.to_be_bytes()),
        }
    }

    fn leaf_hash(signed: &Signed) -> Digest {
        Digest::plain(&[&[0], &signed.to_bytes()[..]].concat())
    }

    /// The receipt for the second of two leaves, by one who had seen the log of one.
    fn receipt(site: &Signer, coordinator: &Signer) -> Receipt {
        let leaves = [head(3), head(5)].map(|head| head.sign(site));
        let [first, second] = [0, 1].map(|at| leaf_hash(&leaves[at]));
        let root = [&[1], &first.as_bytes()[..], second.as_bytes()].concat();
        let tree_head = |size, root| TreeHead { size, root, at: 7 }.sign(coordinator);
        let [_, signed] = leaves;
        Receipt {
            head: signed,
            leaf: 1,
            tree_head: tree_head(2, Digest::plain(&root)),
            inclusion: vec![first],
            earlier: Some(tree_head(1, first)),
            consistency: vec![second],
        }
    }

    #[test]
    fn a_receipt_says_what_was_logged_after_a_file() {
        let (site, coordinator) = (signer(), signer());
        let bytes = receipt(&site, &coordinator).to_bytes();
        let read = Receipt::from_bytes(&bytes).expect("its own bytes");
        let verified = read.verify(&coordinator.public_key()).expect("sound");
        assert_eq!(
            (verified.head, verified.site_key),
            (head(5), site.public_key())
        );
        assert_eq!(verified.tree_head.size, 2);
        assert_eq!(verified.earlier.map(|earlier| earlier.size), Some(1));
    }

    #[test]
    fn no_changed_byte_of_a_receipt_is_believed() {
        let (site, coordinator) = (signer(), signer());
        let sound = receipt(&site, &coordinator);
        let bytes = sound.to_bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            // A reader may not see a difference; then what it read is the sound one.
            let read = Receipt::from_bytes(&changed).ok();
            let believed = read.filter(|read| read.verify(&coordinator.public_key()).is_ok());
            assert!(believed.is_none_or(|read| read == sound), "byte {at}");
        }
    }

    #[test]
    fn another_coordinator_another_leaf_and_another_past_are_refused() {
        let (site, coordinator) = (signer(), signer());
        let key = coordinator.public_key();
        let sound = receipt(&site, &coordinator);
        assert!(sound.verify(&site.public_key()).is_err());
        let other_head = Receipt {
            head: head(6).sign(&site),
            ..sound.clone()
        };
        let refused = other_head.verify(&key).expect_err("it was not logged");
        assert!(
            matches!(refused, TreeError::NotIncluded { .. }),
            "{refused}"
        );
        let past = TreeHead {
            size: 1,
            root: Digest::plain(b"another past"),
            at: 7,
        };
        let other_past = Receipt {
            earlier: Some(past.sign(&coordinator)),
            ..sound
        };
        let refused = other_past.verify(&key).expect_err("two histories");
        assert!(matches!(refused, TreeError::Rewritten { .. }), "{refused}");
    }
}
