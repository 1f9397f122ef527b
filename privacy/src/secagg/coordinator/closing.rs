//! From one phase to the next: when enough has come, or when waiting has an end.

use std::{collections::BTreeMap, time::SystemTime};

use super::{
    Coordinator, Effect, Failure, Phase, Record,
    collecting::{Confirming, Dealers, Shares, Unmasking},
    opening,
};
use crate::secagg::{
    SiteId,
    message::{
        Confirmations, PairKeys, PeerShare, PeerShares, SEALED_SHARES, Survivor, Survivors, ToSite,
    },
    signature::Body,
    site::dealers_digest,
};

impl Coordinator {
    /// Closes the phase if all have answered who will, or if it is time.
    pub(super) fn advance(&mut self, now: SystemTime) -> Vec<Effect> {
        let until = match &self.phase {
            Phase::Keys(_) => self.schedule.keys,
            Phase::Shares(_) => self.schedule.shares,
            Phase::Uploads { .. } => self.schedule.uploads,
            Phase::Confirming(_) => self.schedule.confirmations,
            Phase::Unmasking(_) => self.schedule.answers,
            Phase::Opened { .. } | Phase::Published { .. } | Phase::Failed(_) => return vec![],
        };
        match self.is_complete() || self.is_hopeless() || now >= until {
            true => self.close(),
            false => vec![],
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Opened { .. } | Phase::Published { .. } | Phase::Failed(_)
        )
    }

    fn is_complete(&self) -> bool {
        let heard = |site: &SiteId, there: bool| there || self.gone.contains(site);
        let threshold = self.terms.threshold();
        match &self.phase {
            Phase::Keys(keys) => (self.terms.members().iter())
                .all(|member| heard(&member.id, keys.received.contains_key(&member.id))),
            Phase::Shares(shares) => {
                (shares.keys.keys()).all(|site| heard(site, shares.received.contains_key(site)))
            }
            Phase::Uploads { dealers, uploads } => {
                (dealers.by_site.keys()).all(|site| heard(site, uploads.contains_key(site)))
            }
            Phase::Confirming(confirming) => confirming.received.len() >= threshold,
            Phase::Unmasking(unmasking) => {
                let survivors = &unmasking.list.list.survivors;
                unmasking.lacking(threshold).is_none()
                    || (survivors.iter()).all(|survivor| {
                        heard(&survivor.site, unmasking.answered.contains(&survivor.site))
                    })
            }
            Phase::Opened { .. } | Phase::Published { .. } | Phase::Failed(_) => false,
        }
    }

    /// Whether too few can still come because others have left: waiting would change nothing.
    fn is_hopeless(&self) -> bool {
        let may_come = |site: &SiteId, there: bool| there || !self.gone.contains(site);
        let possible = match &self.phase {
            Phase::Keys(keys) => (self.terms.members().iter())
                .filter(|member| may_come(&member.id, keys.received.contains_key(&member.id)))
                .count(),
            Phase::Shares(shares) => (shares.keys.keys())
                .filter(|site| may_come(site, shares.received.contains_key(site)))
                .count(),
            Phase::Uploads { dealers, uploads } => (dealers.by_site.keys())
                .filter(|site| may_come(site, uploads.contains_key(site)))
                .count(),
            _ => return false,
        };
        possible < self.terms.threshold()
    }

    /// How many sites have sent what the present phase is for.
    pub fn answered(&self) -> usize {
        match &self.phase {
            Phase::Keys(keys) => keys.received.len(),
            Phase::Shares(shares) => shares.received.len(),
            Phase::Uploads { uploads, .. } => uploads.len(),
            Phase::Confirming(confirming) => confirming.received.len(),
            Phase::Unmasking(unmasking) => unmasking.answered.len(),
            Phase::Opened { .. } | Phase::Published { .. } | Phase::Failed(_) => 0,
        }
    }

    /// Whether a site that asks for work is still of use: it may begin, or go on to its upload, or
    /// say that it will not.
    pub fn awaits(&self, site: SiteId) -> bool {
        let awaited = match &self.phase {
            Phase::Keys(_) => self.terms.has(site),
            Phase::Shares(shares) => shares.keys.contains_key(&site),
            Phase::Uploads { dealers, uploads } => {
                dealers.contain(site) && !uploads.contains_key(&site)
            }
            _ => false,
        };
        awaited && !self.gone.contains(&site)
    }

    /// Whether the uploads that count are fixed, and their sites are being asked.
    pub fn is_settling(&self) -> bool {
        matches!(self.phase, Phase::Confirming(_) | Phase::Unmasking(_))
    }

    /// Whether the attempt has come to an end, good or bad.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Published { .. } | Phase::Failed(_))
    }

    /// Closes the phase with what is there: first the record of it, then what it leads to.
    pub(super) fn close(&mut self) -> Vec<Effect> {
        let record = match &self.phase {
            Phase::Uploads { dealers, uploads } if uploads.len() >= self.terms.threshold() => {
                let list = Survivors {
                    peers: dealers.digest,
                    survivors: (uploads.iter())
                        .map(|(site, upload)| Survivor {
                            site: *site,
                            upload: *upload,
                        })
                        .collect(),
                };
                Record::Survivors(list.sign(self.terms.context(), &*self.signer))
            }
            _ => Record::Closed,
        };
        let mut effects = self.follow(&record);
        effects.insert(0, Effect::Persist(record));
        effects
    }

    /// Does what the record of a close says: the same when it is replayed.
    pub(super) fn follow(&mut self, record: &Record) -> Vec<Effect> {
        let placeholder = Phase::Failed(Failure::Abandoned);
        let next = match (std::mem::replace(&mut self.phase, placeholder), record) {
            (Phase::Keys(keys), _) => self.forward_keys(keys.received),
            (Phase::Shares(shares), _) => self.forward_shares(shares),
            (Phase::Uploads { dealers, .. }, Record::Survivors(message)) => {
                self.announce(dealers, message.clone())
            }
            (Phase::Uploads { uploads, .. }, _) => {
                Err(too_few("uploads", uploads.len(), self.terms.threshold()))
            }
            (Phase::Confirming(confirming), _) => self.ask(confirming),
            (Phase::Unmasking(unmasking), _) => return self.finish(unmasking),
            (other, _) => Ok(other),
        };
        match next {
            Ok(phase) => {
                self.phase = phase;
                self.sends()
            }
            Err(failure) => vec![self.fail(failure)],
        }
    }

    fn forward_keys(&self, made: BTreeMap<SiteId, Vec<Vec<u8>>>) -> Result<Phase, Failure> {
        let (found, needed) = (made.len(), self.terms.least_peers());
        if found < needed {
            return Err(too_few("keys", found, needed));
        }
        // Each maker's list holds every other site of the cohort, in order.
        let position = |from: SiteId, to: SiteId| {
            let index = |site| {
                self.terms
                    .point(site)
                    .map_or(0, |point| usize::from(point) - 1)
            };
            index(to) - usize::from(index(to) > index(from))
        };
        let keys = (made.keys())
            .map(|to| {
                let for_it = (made.iter())
                    .filter(|(from, _)| *from != to)
                    .filter_map(|(from, keys)| keys.get(position(*from, *to)).cloned())
                    .collect();
                (*to, PairKeys(for_it).to_bytes())
            })
            .collect();
        let received = BTreeMap::new();
        Ok(Phase::Shares(Shares { keys, received }))
    }

    fn forward_shares(&self, shares: Shares) -> Result<Phase, Failure> {
        let by_site = shares.received;
        let (found, needed) = (by_site.len(), self.terms.least_peers());
        if found < needed {
            return Err(too_few("shares", found, needed));
        }
        let mut disputed = Vec::new();
        for (low, dealer) in &by_site {
            for (high, other) in by_site.range(SiteId(low.0.saturating_add(1))..) {
                let edges = [dealer.dealt_to(*high), other.dealt_to(*low)];
                if !matches!(edges, [Some(a), Some(b)] if a.edge == b.edge) {
                    disputed.push((*low, *high));
                }
            }
        }
        if !disputed.is_empty() {
            return Err(Failure::Disputed(disputed));
        }
        let context = self.terms.context();
        let digests = by_site.iter().map(|(site, dealer)| (*site, dealer.digest));
        let digest = dealers_digest(context, digests);
        let messages = (by_site.keys())
            .map(|to| {
                let peers = (by_site.iter())
                    .map(|(from, dealer)| PeerShare {
                        from: *from,
                        digest: dealer.digest,
                        sealed: dealer
                            .dealt_to(*to)
                            .map_or([0; SEALED_SHARES], |it| it.sealed),
                    })
                    .collect();
                let message = PeerShares { to: *to, peers };
                (*to, message.sign(context, &*self.signer))
            })
            .collect();
        Ok(Phase::Uploads {
            dealers: Dealers {
                by_site,
                digest,
                messages,
            },
            uploads: BTreeMap::new(),
        })
    }

    fn announce(&self, dealers: Dealers, message: Vec<u8>) -> Result<Phase, Failure> {
        let context = self.terms.context();
        // Signed by this very coordinator, just now or before a restart.
        let list = Survivors::open(&message, context, |_| Some(self.terms.coordinator()))
            .map_err(|_| Failure::Abandoned)?;
        Ok(Phase::Confirming(Confirming {
            digest: list.digest(context),
            dealers,
            list,
            message,
            received: BTreeMap::new(),
        }))
    }

    fn ask(&self, confirming: Confirming) -> Result<Phase, Failure> {
        let (found, needed) = (confirming.received.len(), self.terms.threshold());
        if found < needed {
            return Err(too_few("confirmations", found, needed));
        }
        let confirmations = Confirmations(confirming.received.values().cloned().collect());
        Ok(Phase::Unmasking(Unmasking {
            list: confirming,
            confirmations: confirmations.to_bytes(),
            answered: Default::default(),
            shares: BTreeMap::new(),
        }))
    }

    fn finish(&mut self, unmasking: Unmasking) -> Vec<Effect> {
        let threshold = self.terms.threshold();
        if let Some(dealer) = unmasking.lacking(threshold) {
            let found = unmasking.answered.len();
            let failure = match found < threshold {
                true => too_few("answers", found, threshold),
                false => Failure::TooFewShares(dealer),
            };
            return vec![self.fail(failure)];
        }
        match opening::open(&self.terms, &unmasking) {
            Ok(opening) => {
                self.phase = Phase::Opened {
                    survivors: unmasking.list.digest,
                    confirmed: unmasking.list.received.into_keys().collect(),
                };
                vec![Effect::Open(Box::new(opening))]
            }
            Err(failure) => vec![self.fail(failure)],
        }
    }

    /// What a site that asks is to be sent now, if anything: a function of the phase and of what
    /// the site has sent, so the same after a restart.
    pub fn outgoing(&self, site: SiteId) -> Option<ToSite> {
        match &self.phase {
            Phase::Keys(_) | Phase::Failed(_) => None,
            Phase::Shares(shares) if shares.received.contains_key(&site) => None,
            Phase::Shares(shares) => shares.keys.get(&site).cloned().map(ToSite::PeerKeys),
            Phase::Uploads { uploads, .. } if uploads.contains_key(&site) => None,
            Phase::Uploads { dealers, .. } => {
                dealers.messages.get(&site).cloned().map(ToSite::PeerShares)
            }
            Phase::Confirming(list) => list.outgoing(site),
            Phase::Unmasking(unmasking) if unmasking.answered.contains(&site) => None,
            Phase::Unmasking(unmasking) => match unmasking.list.received.contains_key(&site) {
                true => Some(ToSite::Confirmations(unmasking.confirmations.clone())),
                false => unmasking.list.outgoing(site),
            },
            Phase::Opened { .. } => None,
            Phase::Published { outcome, confirmed } => {
                (confirmed.contains(&site)).then(|| ToSite::Outcome(outcome.clone()))
            }
        }
    }

    /// What all sites are to be sent now.
    pub(super) fn sends(&self) -> Vec<Effect> {
        (self.terms.members().iter())
            .filter_map(|member| {
                let to = member.id;
                let message = self.outgoing(to)?;
                Some(Effect::Send { to, message })
            })
            .collect()
    }
}

fn too_few(what: &'static str, found: usize, needed: usize) -> Failure {
    Failure::TooFew {
        what,
        found,
        needed,
    }
}

impl Confirming {
    fn outgoing(&self, site: SiteId) -> Option<ToSite> {
        let waits = self.survived(site) && !self.received.contains_key(&site);
        waits.then(|| ToSite::Survivors(self.message.clone()))
    }
}
