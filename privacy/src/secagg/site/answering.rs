//! Agreeing to one list of survivors, and opening what it decides: one share of each dealer.

use std::collections::BTreeMap;

use super::{Found, Violation, Voice, dealing::Held};
use crate::secagg::{
    SiteId,
    message::{Confirm, Confirmations, LENGTH, Outcome, Survivors, Unmask},
    signature::Body,
};

/// Has uploaded.
pub(super) struct Uploaded {
    held: BTreeMap<SiteId, Held>,
    dealers: [u8; LENGTH],
    upload: [u8; LENGTH],
}

impl Uploaded {
    pub(super) fn new(
        held: BTreeMap<SiteId, Held>,
        dealers: [u8; LENGTH],
        upload: [u8; LENGTH],
    ) -> Self {
        Self {
            held,
            dealers,
            upload,
        }
    }

    /// Agrees to the list, for good.
    pub(super) fn confirm(
        self,
        voice: &Voice,
        message: Vec<u8>,
    ) -> Result<(Confirmed, Vec<u8>), Violation> {
        let Voice { terms, me, signer } = voice;
        let context = terms.context();
        let list = Survivors::open(&message, context, |_| Some(terms.coordinator()))?;
        if list.peers != self.dealers {
            return Err(Violation::OtherDealers);
        }
        if let Some(pair) = list
            .survivors
            .windows(2)
            .find(|pair| pair[0].site >= pair[1].site)
        {
            return Err(Violation::Unsorted(pair[1].site));
        }
        let unknown =
            (list.survivors.iter()).find(|survivor| !self.held.contains_key(&survivor.site));
        if let Some(unknown) = unknown {
            return Err(Violation::UnknownSurvivor(unknown.site));
        }
        let (found, needed) = (list.survivors.len(), terms.threshold());
        if found < needed {
            return Err(Violation::TooFewSurvivors { found, needed });
        }
        match list.survivors.iter().find(|survivor| survivor.site == *me) {
            None => return Err(Violation::LeftOut),
            Some(own) if own.upload != self.upload => return Err(Violation::OtherUpload),
            Some(_) => {}
        }
        let survivors = list.digest(context);
        let confirm = Confirm {
            from: *me,
            survivors,
        }
        .sign(context, &**signer);
        let next = Confirmed {
            held: self.held,
            list,
            agreed: Agreed { message, survivors },
        };
        Ok((next, confirm))
    }
}

/// The one list of survivors that this site signed.
pub(super) struct Agreed {
    /// As the coordinator signed it.
    message: Vec<u8>,
    survivors: [u8; LENGTH],
}

impl Agreed {
    pub(super) fn digest(&self) -> &[u8; LENGTH] {
        &self.survivors
    }

    /// Another list came: if the coordinator signed it, the two prove that it cheats.
    pub(super) fn second(self, voice: &Voice, message: &[u8]) -> Found {
        let terms = &voice.terms;
        match Survivors::open(message, terms.context(), |_| Some(terms.coordinator())) {
            Ok(_) => Found {
                violation: Violation::SecondSurvivors,
                earlier: Some(self.message),
            },
            Err(unbelieved) => Violation::from(unbelieved).into(),
        }
    }
}

/// Has agreed to a list of survivors.
pub(super) struct Confirmed {
    held: BTreeMap<SiteId, Held>,
    list: Survivors,
    pub(super) agreed: Agreed,
}

impl Confirmed {
    /// Opens one share of each dealer, if enough survivors agreed to the very same list.
    ///
    /// Two lists cannot both get here: colluding sites sign both, honest ones one, and
    /// 2(t − n_c) > n − n_c.
    pub(super) fn answer(
        self,
        voice: &Voice,
        confirmations: &[u8],
    ) -> Result<(Answered, Vec<u8>), Violation> {
        let Voice { terms, me, signer } = voice;
        let context = terms.context();
        let survived = |site: SiteId| {
            (self
                .list
                .survivors
                .binary_search_by_key(&site, |survivor| survivor.site))
            .is_ok()
        };
        let mut last = None;
        let confirmations = Confirmations::from_bytes(confirmations)?.0;
        for message in &confirmations {
            let confirm = Confirm::open(message, context, |confirm| terms.key(confirm.from))?;
            let from = confirm.from;
            if last.is_some_and(|last| last >= from) {
                return Err(Violation::Unsorted(from));
            }
            last = Some(from);
            if !survived(from) {
                return Err(Violation::ConfirmOfOther(from));
            }
            if confirm.survivors != self.agreed.survivors {
                return Err(Violation::OtherSurvivors(from));
            }
        }
        let (found, needed) = (confirmations.len(), terms.threshold());
        if found < needed {
            return Err(Violation::TooFewConfirmations { found, needed });
        }
        let opened = (self.held.into_iter())
            .map(|(dealer, held)| (dealer, held.reveal(survived(dealer))))
            .collect();
        let answer = Unmask {
            from: *me,
            survivors: self.agreed.survivors,
            opened,
        }
        .sign(context, &**signer);
        let agreed = self.agreed;
        Ok((Answered { agreed }, answer))
    }
}

/// Has opened its shares, and holds no secrets any more.
pub(super) struct Answered {
    pub(super) agreed: Agreed,
}

impl Answered {
    /// The outcome must be over the uploads that were confirmed.
    pub(super) fn conclude(self, voice: &Voice, message: &[u8]) -> Result<Outcome, Violation> {
        let terms = &voice.terms;
        let outcome = Outcome::open(message, terms.context(), |_| Some(terms.coordinator()))?;
        if outcome.survivors != self.agreed.survivors {
            return Err(Violation::OtherOutcome);
        }
        Ok(outcome)
    }
}
