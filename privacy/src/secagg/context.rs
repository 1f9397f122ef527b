//! What everything in an attempt is bound to, and who takes part in it.

use std::fmt;

use ring::digest::{self, SHA256};

/// Number of a site in the roster, never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u16);

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Digest of the very bytes of the round's specification that the coordinator signed.
///
/// It salts every key, so two sites that were told different models, cohorts or parameters get
/// masks that do not cancel: their sum is noise (Pasquini et al., CCS 2022).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context([u8; 32]);

impl Context {
    /// Binds to the signed bytes of a round's specification.
    pub fn of(round_spec: &[u8]) -> Self {
        Self(sha256(&[b"consilium/sa1/round\0", round_spec]))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes stored bytes back.
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", hex::encode(&self.0[..6]))
    }
}

/// Which attempt at which round of which study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The study.
    pub study: [u8; 16],
    /// Its round, from 1.
    pub round: u32,
    /// The attempt at it, from 1.
    pub attempt: u32,
}

/// SHA-256 of all parts in a row.
pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
