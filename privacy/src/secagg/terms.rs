//! What one attempt fixes, checked before a key is made: the cohort, the threshold, the length of
//! the vector and the numbers that keep its sum from wrapping.

use std::time::SystemTime;

use super::{
    MAX_SITES, SiteId,
    context::{Attempt, Context},
    encoding::{Encoding, Word},
    signature::PublicKey,
};

/// Fewest sites for which a sum hides anything: with two, each knows the other's update.
const LEAST_COHORT: usize = 3;

/// Fewest honest inputs that a sum may hold.
const LEAST_HONEST: usize = 2;

/// Most words of a vector: 2³² (16 or 32 GiB).
const LONGEST: usize = 1 << 32;

/// A site of the cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: SiteId,
    /// Signs its messages; from the roster.
    pub key: PublicKey,
}

/// What a site (or the coordinator) insists on, whatever a round's specification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fewest sites in the cohort and among those that deal; 3 or more.
    pub min_cohort: usize,
    /// n_c: sites that may work together with the coordinator.
    pub colluding: usize,
    /// h_min: honest inputs in every sum; 2 or more.
    pub honest: usize,
}

impl Limits {
    /// What holds where nobody says otherwise: at least five sites, one of them colluding, three
    /// honest inputs.
    pub const USUAL: Self = Self {
        min_cohort: 5,
        colluding: 1,
        honest: 3,
    };

    /// What a plan and the coordinator go by, sites insist on as much or more: three sites, all of them honest.
    pub const LEAST: Self = Self {
        min_cohort: LEAST_COHORT,
        colluding: 0,
        honest: 3,
    };

    /// Least threshold for a cohort of `sites`: max(⌊(n + n_c)/2⌋ + 1, n_c + h_min).
    ///
    /// A coordinator that lies needs as many shares of a site's self mask **and** of its escrow
    /// key. Colluding sites give both, honest ones only one: so 2(t − n_c) ≤ n − n_c must be
    /// impossible. The second term keeps h_min honest inputs in the sum.
    pub fn least_threshold(&self, sites: usize) -> usize {
        ((sites + self.colluding) / 2 + 1).max(self.colluding + self.honest)
    }
}

/// Whether, and how often, a round may be tried again once its sum may have been opened. Sums over
/// S and S \ {u} differ by the update of u.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// Every attempt sends the same noisy update, which is private by itself.
    Free,
    /// Every attempt draws noise anew and is charged; at most so many.
    Charged {
        /// Attempts in all.
        at_most: u32,
    },
    /// Never after an answer: nothing protects the update but this protocol.
    Never,
}

/// What a round's specification says, not checked yet.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Digest of the signed specification.
    pub context: Context,
    /// Which attempt it is.
    pub attempt: Attempt,
    /// The cohort, by ascending number.
    pub members: Vec<Member>,
    /// Signs the coordinator's messages.
    pub coordinator: PublicKey,
    /// t: uploads, confirmations and answers that the sum needs.
    pub threshold: usize,
    /// How updates become words.
    pub encoding: Encoding,
    /// Width of a word.
    pub word: Word,
    /// Length of the update.
    pub main: usize,
    /// Largest magnitude of each further figure that is summed.
    pub tail: Vec<f64>,
    /// Whether the round may be tried again.
    pub repeats: Repeats,
    /// When sites wipe what they hold, whatever has come.
    pub deadline: SystemTime,
}

/// Why a specification is not accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TermsError {
    /// Too few sites for a sum to hide anything, or fewer than this site insists on.
    #[error("a cohort of {found} sites is too small: at least {least} are needed")]
    SmallCohort {
        /// Sites in the cohort.
        found: usize,
        /// Sites needed.
        least: usize,
    },
    /// More sites than shares can be told apart.
    #[error("a cohort of {found} sites is too large: at most {MAX_SITES} can share a secret")]
    LargeCohort {
        /// Sites in the cohort.
        found: usize,
    },
    /// Not ascending: a site occurs twice or out of order.
    #[error("site {0} is repeated or out of order in the cohort")]
    Unsorted(SiteId),
    /// Two sites with one key would be one site.
    #[error("sites {0} and {1} have the same key")]
    SharedKey(SiteId, SiteId),
    /// A threshold at which a lying coordinator could open more than a sum, or above the cohort.
    #[error("a threshold of {found} is not between {least} and the cohort's size")]
    Threshold {
        /// The threshold.
        found: usize,
        /// By the threshold rule.
        least: usize,
    },
    /// The sum of the cohort could wrap around.
    #[error("the sum could wrap around, or its figures are out of range")]
    Wraps,
    /// Nothing to sum, or more than can be handled.
    #[error("a vector of {0} words is not between 1 and 2^32")]
    Length(usize),
    /// Limits below those of the protocol.
    #[error("limits must ask for at least 3 sites and 2 honest inputs")]
    Limits,
}

/// What one attempt fixes, valid because it exists.
#[derive(Debug, Clone)]
pub struct Terms {
    proposal: Proposal,
    limits: Limits,
}

impl Terms {
    /// Accepts what a specification says, if it keeps these limits.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn new(proposal: Proposal, limits: Limits) -> Result<Self, TermsError> {
        if limits.min_cohort < LEAST_COHORT || limits.honest < LEAST_HONEST {
            return Err(TermsError::Limits);
        }
        let members = &proposal.members;
        let sites = members.len();
        if sites < limits.min_cohort {
            let (found, least) = (sites, limits.min_cohort);
            return Err(TermsError::SmallCohort { found, least });
        }
        if sites > MAX_SITES {
            return Err(TermsError::LargeCohort { found: sites });
        }
        if let Some(pair) = members.windows(2).find(|pair| pair[0].id >= pair[1].id) {
            return Err(TermsError::Unsorted(pair[1].id));
        }
        for (index, member) in members.iter().enumerate() {
            if let Some(other) = members[..index]
                .iter()
                .find(|other| other.key == member.key)
            {
                return Err(TermsError::SharedKey(other.id, member.id));
            }
        }
        let least = limits.least_threshold(sites);
        if !(least..=sites).contains(&proposal.threshold) {
            let found = proposal.threshold;
            return Err(TermsError::Threshold { found, least });
        }
        let length = (proposal.main)
            .saturating_add(proposal.tail.len())
            .saturating_add(proposal.encoding.weight_words());
        if !(1..=LONGEST).contains(&length) {
            return Err(TermsError::Length(length));
        }
        let tail_is_sound = (proposal.tail.iter()).all(|most| most.is_finite() && *most > 0.0);
        if !tail_is_sound || !proposal.encoding.fits(proposal.word, sites) {
            return Err(TermsError::Wraps);
        }
        Ok(Self { proposal, limits })
    }

    /// What everything is bound to.
    pub fn context(&self) -> &Context {
        &self.proposal.context
    }

    /// Which attempt it is.
    pub fn attempt(&self) -> Attempt {
        self.proposal.attempt
    }

    /// The cohort, by ascending number.
    pub fn members(&self) -> &[Member] {
        &self.proposal.members
    }

    /// How updates become words.
    pub fn encoding(&self) -> &Encoding {
        &self.proposal.encoding
    }

    /// Width of a word.
    pub fn word(&self) -> Word {
        self.proposal.word
    }

    /// Length of the update.
    pub fn main(&self) -> usize {
        self.proposal.main
    }

    /// Largest magnitude of each further figure.
    pub fn tail(&self) -> &[f64] {
        &self.proposal.tail
    }

    /// Words of a vector: the update, the weight if there is one, the further figures.
    pub fn length(&self) -> usize {
        self.main() + self.encoding().weight_words() + self.tail().len()
    }

    /// Bytes of an upload.
    pub fn bytes(&self) -> u64 {
        (self.length() * self.word().bytes()) as u64
    }

    /// t: uploads, confirmations and answers that the sum needs.
    pub fn threshold(&self) -> usize {
        self.proposal.threshold
    }

    /// Sites that must deal before anything is uploaded.
    pub(super) fn least_peers(&self) -> usize {
        self.threshold().max(self.limits.min_cohort)
    }

    pub(super) fn coordinator(&self) -> &PublicKey {
        &self.proposal.coordinator
    }

    pub(super) fn repeats(&self) -> Repeats {
        self.proposal.repeats
    }

    pub(super) fn deadline(&self) -> SystemTime {
        self.proposal.deadline
    }

    pub(super) fn has(&self, site: SiteId) -> bool {
        self.key(site).is_some()
    }

    pub(super) fn key(&self, site: SiteId) -> Option<&PublicKey> {
        let index = (self.members()).binary_search_by_key(&site, |member| member.id);
        index.ok().map(|index| &self.members()[index].key)
    }

    /// Where a site's shares are evaluated: its position in the cohort, from 1.
    pub(super) fn point(&self, site: SiteId) -> Option<u8> {
        let index = (self.members()).binary_search_by_key(&site, |member| member.id);
        index.ok().and_then(|index| u8::try_from(index + 1).ok())
    }
}
