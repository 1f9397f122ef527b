//! Upload, agreement on whose uploads count, and the shares that open the rest.

use std::fmt;

use super::{LENGTH, Secret, read_messages, write_messages};
use crate::secagg::{
    SiteId,
    bytes::{Malformed, Reader, Writer},
    context::{Context, sha256},
    signature::{Body, Kind, Unbelieved},
};

/// Digests of the two shares that a site received from one dealer: the coordinator finds by them,
/// before anything is opened, a dealer that sealed other shares than it committed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    /// The dealer.
    pub from: SiteId,
    /// Of the share of the self mask's seed, and of that of the escrow key.
    pub shares: [[u8; LENGTH]; 2],
}

/// What a site has uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// Whose upload.
    pub from: SiteId,
    /// Its length in bytes.
    pub length: u64,
    /// SHA-256 of its bytes.
    pub upload: [u8; LENGTH],
    /// Digest of who has dealt, as this site was told.
    pub peers: [u8; LENGTH],
    /// By ascending number, without the site itself.
    pub echoes: Vec<Echo>,
}

impl Body for Trailer {
    const KIND: Kind = Kind::Trailer;

    fn write(&self, out: &mut Writer) {
        out.site(self.from).u64(self.length).raw(&self.upload);
        out.raw(&self.peers).list(&self.echoes, |out, echo| {
            out.site(echo.from)
                .raw(&echo.shares[0])
                .raw(&echo.shares[1]);
        });
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            from: bytes.site()?,
            length: bytes.u64()?,
            upload: bytes.array()?,
            peers: bytes.array()?,
            echoes: bytes.list(|bytes| {
                Ok(Echo {
                    from: bytes.site()?,
                    shares: [bytes.array()?, bytes.array()?],
                })
            })?,
        })
    }
}

/// A site whose upload counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survivor {
    /// Which.
    pub site: SiteId,
    /// SHA-256 of its upload.
    pub upload: [u8; LENGTH],
}

/// Whose uploads count. A coordinator that signs two of these for one attempt has cheated, and the
/// two prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivors {
    /// Digest of who has dealt.
    pub peers: [u8; LENGTH],
    /// By ascending number.
    pub survivors: Vec<Survivor>,
}

impl Survivors {
    /// What sites confirm.
    pub fn digest(&self, context: &Context) -> [u8; LENGTH] {
        let label = b"consilium/sa1/survivor-set\0";
        sha256(&[label, context.as_bytes(), &self.to_bytes()])
    }
}

impl Body for Survivors {
    const KIND: Kind = Kind::Survivors;

    fn write(&self, out: &mut Writer) {
        out.raw(&self.peers).list(&self.survivors, |out, survivor| {
            out.site(survivor.site).raw(&survivor.upload);
        });
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            peers: bytes.array()?,
            survivors: bytes.list(|bytes| {
                Ok(Survivor {
                    site: bytes.site()?,
                    upload: bytes.array()?,
                })
            })?,
        })
    }
}

/// A site's agreement to one list of survivors; it signs one for each attempt at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// Who agrees.
    pub from: SiteId,
    /// To which list: [`Survivors::digest`].
    pub survivors: [u8; LENGTH],
}

impl Confirm {
    /// Signature, site, digest.
    const MESSAGE: usize = 64 + 2 + LENGTH;
}

impl Body for Confirm {
    const KIND: Kind = Kind::Confirm;

    fn write(&self, out: &mut Writer) {
        out.site(self.from).raw(&self.survivors);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            from: bytes.site()?,
            survivors: bytes.array()?,
        })
    }
}

/// Signed [`Confirm`]s of at least as many sites as the threshold says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmations(pub Vec<Vec<u8>>);

impl Confirmations {
    /// As they travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        write_messages(&self.0, Confirm::MESSAGE)
    }

    /// Reads the list; the signatures stand.
    ///
    /// # Errors
    /// Not such a list.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unbelieved> {
        read_messages(bytes, Confirm::MESSAGE, Kind::Confirm).map(Self)
    }
}

/// The one share of a dealer's two that may be opened. There is no value that holds both.
#[derive(Clone, PartialEq, Eq)]
pub enum Opened {
    /// The dealer's upload counts: a share of the seed of its self mask.
    SelfMask(Secret),
    /// It does not: a share of its escrow key.
    Escrow(Secret),
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SelfMask(_) => "SelfMask([redacted])",
            Self::Escrow(_) => "Escrow([redacted])",
        })
    }
}

/// A site's answer: one share of each dealer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmask {
    /// Whose answer.
    pub from: SiteId,
    /// For which list.
    pub survivors: [u8; LENGTH],
    /// Dealers by ascending number, each with the share that the list of survivors decides.
    pub opened: Vec<(SiteId, Opened)>,
}

impl Body for Unmask {
    const KIND: Kind = Kind::Unmask;

    fn write(&self, out: &mut Writer) {
        out.site(self.from).raw(&self.survivors);
        out.list(&self.opened, |out, (dealer, opened)| {
            let (tag, share) = match opened {
                Opened::SelfMask(share) => (0, share),
                Opened::Escrow(share) => (1, share),
            };
            out.site(*dealer).u8(tag).raw(share.as_slice());
        });
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            from: bytes.site()?,
            survivors: bytes.array()?,
            opened: bytes.list(|bytes| {
                let (dealer, tag) = (bytes.site()?, bytes.u8()?);
                let share = Secret::new(bytes.array()?);
                match tag {
                    0 => Ok((dealer, Opened::SelfMask(share))),
                    1 => Ok((dealer, Opened::Escrow(share))),
                    _ => Err(Malformed),
                }
            })?,
        })
    }
}

/// What came of the sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Over whose uploads: [`Survivors::digest`], which holds the digest of each.
    pub survivors: [u8; LENGTH],
    /// SHA-256 of the unmasked sum's words, as they would travel.
    pub sum: [u8; LENGTH],
    /// The version of the model that it gave.
    pub model: [u8; LENGTH],
}

impl Body for Outcome {
    const KIND: Kind = Kind::Outcome;

    fn write(&self, out: &mut Writer) {
        out.raw(&self.survivors).raw(&self.sum).raw(&self.model);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            survivors: bytes.array()?,
            sum: bytes.array()?,
            model: bytes.array()?,
        })
    }
}

/// Why a site stopped, and the messages that show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Who complains.
    pub from: SiteId,
    /// What it found, as a sentence.
    pub violation: String,
    /// The peer whose shares did not open, if that is what it found.
    pub dealer: Option<SiteId>,
    /// The very bytes that it was sent.
    pub evidence: Vec<Vec<u8>>,
}

impl Complaint {
    /// Longest sentence, in bytes.
    const LONGEST: usize = 500;
}

impl Body for Complaint {
    const KIND: Kind = Kind::Complaint;

    fn write(&self, out: &mut Writer) {
        out.site(self.from).sized(self.violation.as_bytes());
        out.u8(self.dealer.is_some().into());
        out.site(self.dealer.unwrap_or(SiteId(0)));
        out.list(&self.evidence, |out, message| {
            out.sized(message);
        });
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let from = bytes.site()?;
        let violation = bytes.sized()?;
        if violation.len() > Self::LONGEST {
            return Err(Malformed);
        }
        let violation = str::from_utf8(violation).map_err(|_| Malformed)?.to_owned();
        if violation.chars().any(char::is_control) {
            return Err(Malformed); // people read it in a terminal
        }
        let dealer = match (bytes.u8()?, bytes.site()?) {
            (0, SiteId(0)) => None,
            (1, dealer) => Some(dealer),
            _ => return Err(Malformed),
        };
        let evidence = bytes.list(|bytes| bytes.sized().map(<[u8]>::to_vec))?;
        Ok(Self {
            from,
            violation,
            dealer,
            evidence,
        })
    }
}
