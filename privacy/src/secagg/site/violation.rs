//! What a site does not put up with: any of these ends its attempt and wipes its secrets.

use crate::secagg::{
    SiteId,
    message::{Complaint, ToSite},
    signature::Unbelieved,
};

/// What was wrong with what the coordinator sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not well formed, not signed by whom it should be, or of another attempt.
    #[error(transparent)]
    Unbelieved(#[from] Unbelieved),
    /// A message that the attempt is not at.
    #[error("the site is {phase} and was sent {message}")]
    OutOfOrder {
        /// Where the site is.
        phase: &'static str,
        /// What came.
        message: &'static str,
    },

    /// A key or shares for somebody else.
    #[error("what site {from} made for site {to} was sent to this one")]
    ForAnother {
        /// Who made it.
        from: SiteId,
        /// Whom for.
        to: SiteId,
    },
    /// Keys, shares, survivors or confirmations twice, or not in ascending order.
    #[error("site {0} is repeated or out of order")]
    Unsorted(SiteId),
    /// A key of this site's own came back as another's.
    #[error("this site's own key was sent back as that of site {0}")]
    Reflected(SiteId),
    /// Two sites with one key.
    #[error("sites {0} and {1} sent the same key")]
    SharedKey(SiteId, SiteId),
    /// A key with which every agreement gives the same.
    #[error("the key of site {0} agrees on nothing secret")]
    LowOrderKey(SiteId),
    /// Fewer sites sent keys than the sum needs.
    #[error("{found} sites sent keys, at least {needed} are needed")]
    TooFewKeys {
        /// Sites, with this one.
        found: usize,
        /// Sites needed.
        needed: usize,
    },

    /// A dealer that sent no key before.
    #[error("site {0} deals shares but sent no key")]
    UnknownDealer(SiteId),
    /// This site's own shares are missing, or changed.
    #[error("this site's own shares are missing from what was dealt, or changed")]
    OwnSharesChanged,
    /// Fewer dealers than the sum needs, or than the site insists on.
    #[error("{found} sites dealt shares, at least {needed} are needed")]
    TooFewDealers {
        /// Sites, with this one.
        found: usize,
        /// Sites needed.
        needed: usize,
    },
    /// Sealed shares that do not open. Either end may lie.
    #[error("the shares of site {0} do not open")]
    DoesNotOpen(SiteId),

    /// A list of survivors for other dealers than this site was told of.
    #[error("the list of survivors is for other dealers than this site was told of")]
    OtherDealers,
    /// This site has uploaded and is not in the list.
    #[error("this site has uploaded and is left out of the list of survivors")]
    LeftOut,
    /// This site is in the list with another upload.
    #[error("the list of survivors holds another upload of this site")]
    OtherUpload,
    /// A survivor that dealt no shares.
    #[error("site {0} is listed as a survivor but dealt no shares")]
    UnknownSurvivor(SiteId),
    /// Fewer survivors than the sum needs.
    #[error("{found} sites are listed as survivors, at least {needed} are needed")]
    TooFewSurvivors {
        /// Survivors.
        found: usize,
        /// Survivors needed.
        needed: usize,
    },
    /// Another list of survivors for the same attempt: the coordinator has cheated.
    #[error("the coordinator signed two lists of survivors for one attempt")]
    SecondSurvivors,

    /// Shares are asked for before survivors were agreed on.
    #[error("shares are asked for before this site has confirmed any survivors")]
    UnmaskBeforeConfirm,
    /// A confirmation by a site that is no survivor.
    #[error("site {0} confirms but is not listed as a survivor")]
    ConfirmOfOther(SiteId),
    /// A survivor was told another list.
    #[error("site {0} confirms another list of survivors")]
    OtherSurvivors(SiteId),
    /// Fewer confirmations than the sum needs.
    #[error("{found} sites confirm, at least {needed} are needed")]
    TooFewConfirmations {
        /// Confirmations.
        found: usize,
        /// Confirmations needed.
        needed: usize,
    },
    /// Shares are asked for again, in another way.
    #[error("shares are asked for again with other confirmations")]
    AskedTwice,

    /// An outcome over other uploads than were confirmed.
    #[error("the outcome is over other uploads than this site confirmed")]
    OtherOutcome,
}

impl Violation {
    /// Whether only a coordinator that cheats, or is at fault, can have caused it. The others may come
    /// of sites that dropped out, or of one other site that lies.
    pub fn is_grave(&self) -> bool {
        !matches!(
            self,
            Self::DoesNotOpen(_) | Self::TooFewKeys { .. } | Self::TooFewDealers { .. }
        )
    }

    /// Says so to the coordinator and to whoever reads its records.
    pub(super) fn complaint(&self, from: SiteId, evidence: Vec<Vec<u8>>) -> Complaint {
        Complaint {
            from,
            violation: self.to_string(),
            dealer: match self {
                Self::DoesNotOpen(dealer) => Some(*dealer),
                _ => None,
            },
            evidence,
        }
    }

    pub(in crate::secagg) fn out_of_order(phase: &'static str, message: &ToSite) -> Self {
        let message = message.name();
        Self::OutOfOrder { phase, message }
    }
}
