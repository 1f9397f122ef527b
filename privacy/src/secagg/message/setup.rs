//! Keys and shares: what is exchanged while sites still train.

use super::{LENGTH, SEALED_SHARES, TAG, read_messages, write_messages};
use crate::secagg::{
    MAX_SITES, SiteId,
    bytes::{Malformed, Reader, Writer},
    signature::{Body, Kind, Unbelieved},
};

/// A fresh public key of one site for one peer and one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairKey {
    /// Who made it.
    pub from: SiteId,
    /// Whom it is for.
    pub to: SiteId,
    /// X25519.
    pub key: [u8; LENGTH],
}

impl PairKey {
    /// Signature, two sites, key.
    const MESSAGE: usize = 64 + 4 + LENGTH;
}

impl Body for PairKey {
    const KIND: Kind = Kind::PairKey;

    fn write(&self, out: &mut Writer) {
        out.site(self.from).site(self.to).raw(&self.key);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            from: bytes.site()?,
            to: bytes.site()?,
            key: bytes.array()?,
        })
    }
}

/// Signed [`PairKey`]s: all of one site, or all for one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairKeys(pub Vec<Vec<u8>>);

impl PairKeys {
    /// As they travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        write_messages(&self.0, PairKey::MESSAGE)
    }

    /// Reads the list; the signatures stand.
    ///
    /// # Errors
    /// Not such a list.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unbelieved> {
        read_messages(bytes, PairKey::MESSAGE, Kind::PairKey).map(Self)
    }
}

/// What a site deals to one peer, and what it commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealt {
    /// The peer.
    pub to: SiteId,
    /// A share of each secret, sealed for the peer.
    pub sealed: [u8; SEALED_SHARES],
    /// Commitment to the mask seed that both share.
    pub edge: [u8; LENGTH],
    /// Digests of the two shares: of the self mask's seed, of the escrow key.
    pub shares: [[u8; LENGTH]; 2],
}

/// All that a site deals: every other site that sent keys gets a share of its two secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    /// The dealer.
    pub from: SiteId,
    /// Commitments to the seed of its self mask and to its escrow key.
    pub secrets: [[u8; LENGTH]; 2],
    /// Digests of the two shares that it keeps.
    pub own: [[u8; LENGTH]; 2],
    /// One for each peer, by ascending number.
    pub dealt: Vec<Dealt>,
    /// Under the escrow key: the mask seed of each peer, in the same order.
    pub escrow: Vec<u8>,
}

impl Body for Shares {
    const KIND: Kind = Kind::Shares;

    fn write(&self, out: &mut Writer) {
        out.site(self.from);
        for digest in self.secrets.iter().chain(&self.own) {
            out.raw(digest);
        }
        out.list(&self.dealt, |out, dealt| {
            out.site(dealt.to).raw(&dealt.sealed).raw(&dealt.edge);
            out.raw(&dealt.shares[0]).raw(&dealt.shares[1]);
        });
        out.raw(&self.escrow);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let from = bytes.site()?;
        let secrets = [bytes.array()?, bytes.array()?];
        let own = [bytes.array()?, bytes.array()?];
        let dealt = bytes.list(|bytes| {
            Ok(Dealt {
                to: bytes.site()?,
                sealed: bytes.array()?,
                edge: bytes.array()?,
                shares: [bytes.array()?, bytes.array()?],
            })
        })?;
        if dealt.len() >= MAX_SITES || !dealt.is_sorted_by(|a, b| a.to < b.to) {
            return Err(Malformed);
        }
        let escrow = bytes.slice(LENGTH * dealt.len() + TAG)?.to_vec();
        Ok(Self {
            from,
            secrets,
            own,
            dealt,
            escrow,
        })
    }
}

/// What one dealer has for the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerShare {
    /// The dealer.
    pub from: SiteId,
    /// Digest of its signed [`Shares`]: all sites must be told the same.
    pub digest: [u8; LENGTH],
    /// What it sealed for the reader; zeros where the reader is the dealer.
    pub sealed: [u8; SEALED_SHARES],
}

/// Who has dealt, the reader among them, and the reader's shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerShares {
    /// Whom it is for.
    pub to: SiteId,
    /// By ascending number.
    pub peers: Vec<PeerShare>,
}

impl Body for PeerShares {
    const KIND: Kind = Kind::PeerShares;

    fn write(&self, out: &mut Writer) {
        out.site(self.to).list(&self.peers, |out, peer| {
            out.site(peer.from).raw(&peer.digest).raw(&peer.sealed);
        });
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            to: bytes.site()?,
            peers: bytes.list(|bytes| {
                Ok(PeerShare {
                    from: bytes.site()?,
                    digest: bytes.array()?,
                    sealed: bytes.array()?,
                })
            })?,
        })
    }
}
