//! What a site signs about its ledger when it exports it.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::{Hex, Receipt};
use crate::ledger::Head;

/// What a site says about its ledger, signed with its identity key. Ties the key that signs entries
/// to a member of the federation, and says where the ledger ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteStatement {
    /// Public half of the key that signs the ledger's entries.
    pub ledger_key: Hex<[u8; 32]>,
    /// Position of the newest entry; 0 for an empty ledger.
    pub entries: u64,
    /// Hash of the newest entry; zeros for an empty ledger.
    pub head: Hex<[u8; 32]>,
    /// When it was signed, in seconds since 1970 by the site's clock.
    pub at: u64,
    /// What is public about the data sets.
    pub data_sets: Vec<DataSetStated>,
    /// The studies that the ledger names.
    pub studies: Vec<StudyStated>,
    /// [`Self::digest_of`] the receipts that the site keeps.
    pub receipts: Hex<[u8; 32]>,
}

/// What is public about a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSetStated {
    /// As plans name it.
    pub name: String,
    /// Its size, as the world may know it.
    pub public_size: u64,
}

/// A study that took part in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyStated {
    /// Its number.
    pub study: Hex<[u8; 16]>,
    /// Digest of its plan.
    pub plan: Hex<[u8; 32]>,
    /// The public size that its noise was made for.
    pub public_size: Option<u64>,
}

impl SiteStatement {
    /// The bytes that are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists of them: JSON can write all of it.
        serde_json::to_vec(self).expect("a statement is representable in JSON")
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, and nothing else.
    ///
    /// # Errors
    /// Why these bytes are no statement.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let statement: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match statement.to_bytes() == bytes {
            true => Ok(statement),
            false => Err("it is written in another form".to_owned()),
        }
    }

    /// Digest of receipts, in their order.
    pub fn digest_of(receipts: &[Receipt]) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(b"consilium/audit-receipts/1\0");
        for receipt in receipts {
            context.update(&receipt.sequence.to_be_bytes());
            context.update(&(receipt.bytes.0.len() as u64).to_be_bytes());
            context.update(&receipt.bytes.0);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    /// Where the ledger ended.
    pub fn head(&self) -> Head {
        Head {
            sequence: self.entries,
            hash: self.head.0,
        }
    }

    /// What it says of a study.
    pub fn study(&self, study: [u8; 16]) -> Option<&StudyStated> {
        self.studies.iter().find(|stated| stated.study.0 == study)
    }
}
