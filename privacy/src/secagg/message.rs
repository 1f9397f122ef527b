//! What sites and coordinator say to each other, message by message, and the form of each in bytes.
//!
//! | step | a site sends | the coordinator sends |
//! |---|---|---|
//! | keys | [`PairKeys`]: one key for each peer | [`PairKeys`]: those made for this site |
//! | shares | [`Shares`] | [`PeerShares`] |
//! | upload | the masked vector, then its [`Trailer`] | [`Survivors`] |
//! | confirm | [`Confirm`] | [`Confirmations`] |
//! | unmask | [`Unmask`] | [`Outcome`] |
//!
//! Everything is signed, by the coordinator or by a site; lists of site-signed messages travel
//! unsigned. A [`Complaint`] may come from a site at any time.

mod setup;
mod unmasking;

use std::fmt;

use zeroize::Zeroizing;

pub use self::{
    setup::{Dealt, PairKey, PairKeys, PeerShare, PeerShares, Shares},
    unmasking::{
        Complaint, Confirm, Confirmations, Echo, Opened, Outcome, Survivor, Survivors, Trailer,
        Unmask,
    },
};
use super::{
    bytes::{Malformed, Reader, Writer},
    context::Context,
    signature::{Body, Kind, PublicKey, Signer, Unbelieved},
};

/// Length of an X25519 public key, of a secret, of a share and of a digest.
pub(super) const LENGTH: usize = 32;

/// Length of an AEAD tag.
pub(super) const TAG: usize = 16;

/// Two shares under one channel key.
pub(super) const SEALED_SHARES: usize = 2 * LENGTH + TAG;

/// Secret bytes: wiped when dropped, not printed.
pub(super) type Secret = Zeroizing<[u8; LENGTH]>;

/// Gives the bodies that somebody signs the two calls that outsiders need: to send one and to read
/// one. Site and coordinator make theirs themselves.
macro_rules! signed_by {
    ($who:literal: $($body:ty),*) => {$(
        impl $body {
            #[doc = concat!("The signed message of ", $who, ", as it travels.")]
            pub fn signed(&self, context: &Context, signer: &dyn Signer) -> Vec<u8> {
                Body::sign(self, context, signer)
            }

            #[doc = concat!("Reads a message of ", $who, " with this key.")]
            ///
            /// # Errors
            /// Not well formed, or not signed by this key for this context.
            pub fn verified(
                message: &[u8],
                context: &Context,
                key: &PublicKey,
            ) -> Result<Self, Unbelieved> {
                Body::open(message, context, |_| Some(key))
            }
        }
    )*};
}

signed_by!("a site": PairKey, Shares, Trailer, Confirm, Unmask, Complaint);
signed_by!("the coordinator": PeerShares, Survivors, Outcome);

/// Messages that sites signed, as a list.
fn write_messages(messages: &[Vec<u8>], length: usize) -> Vec<u8> {
    let mut out = Writer::default();
    out.list(messages, |out, message| {
        debug_assert_eq!(
            message.len(),
            length,
            "all of one kind, whose length is fixed"
        );
        out.raw(message);
    });
    out.finish()
}

fn read_messages(bytes: &[u8], length: usize, kind: Kind) -> Result<Vec<Vec<u8>>, Unbelieved> {
    let mut reader = Reader::new(bytes);
    let messages = reader.list(|reader| reader.slice(length).map(<[u8]>::to_vec));
    messages
        .and_then(|messages| reader.end().map(|()| messages))
        .map_err(|Malformed| Unbelieved::Malformed(kind))
}

/// What the coordinator says to a site, as it travels.
#[derive(Clone, PartialEq, Eq)]
pub enum ToSite {
    /// [`PairKeys`] that peers made for it.
    PeerKeys(Vec<u8>),
    /// [`PeerShares`].
    PeerShares(Vec<u8>),
    /// [`Survivors`].
    Survivors(Vec<u8>),
    /// [`Confirmations`].
    Confirmations(Vec<u8>),
    /// [`Outcome`].
    Outcome(Vec<u8>),
}

impl ToSite {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PeerKeys(_) => "peers' keys",
            Self::PeerShares(_) => "peers' shares",
            Self::Survivors(_) => "a list of survivors",
            Self::Confirmations(_) => "confirmations",
            Self::Outcome(_) => "an outcome",
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::PeerKeys(bytes)
            | Self::PeerShares(bytes)
            | Self::Survivors(bytes)
            | Self::Confirmations(bytes)
            | Self::Outcome(bytes) => bytes,
        }
    }
}

impl fmt::Debug for ToSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToSite({}, {} bytes)", self.name(), self.bytes().len())
    }
}

/// What a site says to the coordinator, as it travels.
#[derive(Clone, PartialEq, Eq)]
pub enum ToCoordinator {
    /// [`PairKeys`], one for each other site of the cohort.
    Keys(Vec<u8>),
    /// [`Shares`].
    Shares(Vec<u8>),
    /// [`Trailer`], after the bytes of the upload.
    Trailer(Vec<u8>),
    /// [`Confirm`].
    Confirm(Vec<u8>),
    /// [`Unmask`].
    Unmask(Vec<u8>),
    /// [`Complaint`].
    Complaint(Vec<u8>),
}

impl ToCoordinator {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Keys(_) => "keys",
            Self::Shares(_) => "shares",
            Self::Trailer(_) => "a trailer",
            Self::Confirm(_) => "a confirmation",
            Self::Unmask(_) => "an answer",
            Self::Complaint(_) => "a complaint",
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Keys(bytes)
            | Self::Shares(bytes)
            | Self::Trailer(bytes)
            | Self::Confirm(bytes)
            | Self::Unmask(bytes)
            | Self::Complaint(bytes) => bytes,
        }
    }
}

impl fmt::Debug for ToCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes().len();
        write!(f, "ToCoordinator({}, {bytes} bytes)", self.name())
    }
}
