//! What sites send, phase by phase: checked when it comes, kept until the phase closes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Coordinator, Effect, Failure, Phase, Refusal};
use crate::secagg::{
    SiteId,
    context::sha256,
    keys::Which,
    message::{
        Confirm, Dealt, LENGTH, Opened, PairKey, PairKeys, Secret, Shares as Dealing, Survivors,
        ToCoordinator, Trailer, Unmask,
    },
    signature::Body,
    terms::Terms,
    upload::Spooled,
};

/// Signed keys, by their maker: one for each other site, by ascending number.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) received: BTreeMap<SiteId, Vec<Vec<u8>>>,
}

/// What was dealt, and the keys that each dealer was sent.
pub(super) struct Shares {
    /// For each site that sent keys: those that the others made for it.
    pub(super) keys: BTreeMap<SiteId, Vec<u8>>,
    pub(super) received: BTreeMap<SiteId, Dealer>,
}

/// What one site dealt.
pub(super) struct Dealer {
    /// Digest of its signed message.
    pub(super) digest: [u8; LENGTH],
    pub(super) dealing: Dealing,
}

impl Dealer {
    /// What it committed to for one holder and one of its secrets.
    pub(super) fn share_digest(&self, holder: SiteId, which: Which) -> Option<&[u8; LENGTH]> {
        let digests = if holder == self.dealing.from {
            &self.dealing.own
        } else {
            &self.dealt_to(holder)?.shares
        };
        Some(match which {
            Which::SelfMask => &digests[0],
            Which::Escrow => &digests[1],
        })
    }

    pub(super) fn dealt_to(&self, holder: SiteId) -> Option<&Dealt> {
        let dealt = &self.dealing.dealt;
        let index = dealt.binary_search_by_key(&holder, |dealt| dealt.to);
        index.ok().map(|index| &dealt[index])
    }
}

/// The sites that dealt, once and for all.
pub(super) struct Dealers {
    pub(super) by_site: BTreeMap<SiteId, Dealer>,
    /// What sites are told of them.
    pub(super) digest: [u8; LENGTH],
    /// The signed message for each.
    pub(super) messages: BTreeMap<SiteId, Vec<u8>>,
}

impl Dealers {
    pub(super) fn contain(&self, site: SiteId) -> bool {
        self.by_site.contains_key(&site)
    }
}

/// A list of survivors is out.
pub(super) struct Confirming {
    pub(super) dealers: Dealers,
    pub(super) list: Survivors,
    /// As it was signed.
    pub(super) message: Vec<u8>,
    pub(super) digest: [u8; LENGTH],
    pub(super) received: BTreeMap<SiteId, Vec<u8>>,
}

impl Confirming {
    pub(super) fn survived(&self, site: SiteId) -> bool {
        let survivors = &self.list.survivors;
        (survivors.binary_search_by_key(&site, |survivor| survivor.site)).is_ok()
    }

    /// Which secret of a dealer is opened.
    pub(super) fn which(&self, dealer: SiteId) -> Which {
        match self.survived(dealer) {
            true => Which::SelfMask,
            false => Which::Escrow,
        }
    }
}

/// Enough survivors have agreed.
pub(super) struct Unmasking {
    pub(super) list: Confirming,
    /// The confirmations that every survivor is shown, always the same.
    pub(super) confirmations: Vec<u8>,
    /// Who has answered.
    pub(super) answered: BTreeSet<SiteId>,
    /// For each dealer, sound shares by holder.
    pub(super) shares: BTreeMap<SiteId, BTreeMap<SiteId, Secret>>,
}

impl Unmasking {
    /// The first dealer of whom too few shares are there.
    pub(super) fn lacking(&self, threshold: usize) -> Option<SiteId> {
        (self.list.dealers.by_site.keys())
            .find(|dealer| self.shares.get(dealer).map_or(0, BTreeMap::len) < threshold)
            .copied()
    }
}

impl Coordinator {
    /// A trailer must fit what was spooled, before anything is believed of it.
    pub(super) fn check_spooled(
        &self,
        from: SiteId,
        trailer: &[u8],
        spooled: Spooled,
    ) -> Result<(), Refusal> {
        self.member(from)?;
        let trailer = Trailer::open(trailer, self.terms.context(), |body| {
            self.terms.key(body.from)
        })?;
        if trailer.length != spooled.length || trailer.upload != spooled.digest {
            return Err(Refusal::OtherUpload(from));
        }
        Ok(())
    }

    /// Takes a message that the phase is for.
    pub(super) fn collect(
        &mut self,
        from: SiteId,
        message: &ToCoordinator,
    ) -> Result<Vec<Effect>, Refusal> {
        let terms = &self.terms;
        match (&mut self.phase, message) {
            (Phase::Keys(keys), ToCoordinator::Keys(bytes)) => {
                let made = believed_keys(terms, from, bytes)?;
                keys.received.insert(from, made);
                Ok(vec![])
            }
            (Phase::Shares(shares), ToCoordinator::Shares(bytes)) => {
                let dealer = believed_shares(terms, from, bytes, shares)?;
                shares.received.insert(from, dealer);
                Ok(vec![])
            }
            (Phase::Uploads { dealers, uploads }, ToCoordinator::Trailer(bytes)) => {
                let upload = believed_trailer(terms, from, bytes, dealers)?;
                uploads.insert(from, upload.digest);
                if upload.disputed.is_empty() {
                    return Ok(vec![]);
                }
                Ok(vec![self.fail(Failure::Disputed(upload.disputed))])
            }
            (Phase::Confirming(confirming), ToCoordinator::Confirm(bytes)) => {
                believed_confirm(terms, from, bytes, confirming)?;
                confirming.received.insert(from, bytes.clone());
                Ok(vec![])
            }
            // One that comes late may still answer.
            (Phase::Unmasking(unmasking), ToCoordinator::Confirm(bytes)) => {
                believed_confirm(terms, from, bytes, &unmasking.list)?;
                unmasking.list.received.insert(from, bytes.clone());
                let message = self.outgoing(from);
                let sends = message.map(|message| Effect::Send { to: from, message });
                Ok(sends.into_iter().collect())
            }
            (Phase::Unmasking(unmasking), ToCoordinator::Unmask(bytes)) => {
                let opened = believed_answer(terms, from, bytes, &unmasking.list)?;
                let effects = keep_sound(terms, from, opened, unmasking);
                unmasking.answered.insert(from);
                Ok(effects)
            }
            (_, message) => Err(self.out_of_phase(message.name())),
        }
    }
}

fn sender(from: SiteId, claimed: SiteId) -> Result<(), Refusal> {
    match from == claimed {
        true => Ok(()),
        false => Err(Refusal::OtherSender { from, claimed }),
    }
}

/// One signed key for each other site of the cohort.
fn believed_keys(terms: &Terms, from: SiteId, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let messages = PairKeys::from_bytes(bytes)?.0;
    let mut peers = terms
        .members()
        .iter()
        .map(|member| member.id)
        .filter(|id| *id != from);
    for message in &messages {
        let key = PairKey::open(message, terms.context(), |key| terms.key(key.from))?;
        sender(from, key.from)?;
        if peers.next() != Some(key.to) {
            return Err(Refusal::OtherPeers(from));
        }
    }
    match peers.next() {
        None => Ok(messages),
        Some(_) => Err(Refusal::OtherPeers(from)),
    }
}

/// Shares for each other site that sent keys.
fn believed_shares(
    terms: &Terms,
    from: SiteId,
    bytes: &[u8],
    shares: &Shares,
) -> Result<Dealer, Refusal> {
    let dealing = Dealing::open(bytes, terms.context(), |body| terms.key(body.from))?;
    sender(from, dealing.from)?;
    let peers = shares.keys.keys().filter(|id| **id != from);
    if !shares.keys.contains_key(&from) || !peers.eq(dealing.dealt.iter().map(|dealt| &dealt.to)) {
        return Err(Refusal::OtherPeers(from));
    }
    let digest = sha256(&[bytes]);
    Ok(Dealer { digest, dealing })
}

/// What a trailer says.
struct Upload {
    digest: [u8; LENGTH],
    /// Dealers whose shares came as others than they committed to, each with this site.
    disputed: Vec<(SiteId, SiteId)>,
}

fn believed_trailer(
    terms: &Terms,
    from: SiteId,
    bytes: &[u8],
    dealers: &Dealers,
) -> Result<Upload, Refusal> {
    let trailer = Trailer::open(bytes, terms.context(), |body| terms.key(body.from))?;
    sender(from, trailer.from)?;
    let others = dealers.by_site.keys().filter(|id| **id != from);
    if !dealers.contain(from)
        || trailer.peers != dealers.digest
        || !others.eq(trailer.echoes.iter().map(|echo| &echo.from))
    {
        return Err(Refusal::OtherDealers(from));
    }
    if trailer.length != terms.bytes() {
        return Err(Refusal::OtherUpload(from));
    }
    let disputed = (trailer.echoes.iter())
        .filter(|echo| {
            let dealt = dealers
                .by_site
                .get(&echo.from)
                .and_then(|dealer| dealer.dealt_to(from));
            dealt.is_none_or(|dealt| dealt.shares != echo.shares)
        })
        .map(|echo| (echo.from, from))
        .collect();
    let digest = trailer.upload;
    Ok(Upload { digest, disputed })
}

fn believed_confirm(
    terms: &Terms,
    from: SiteId,
    bytes: &[u8],
    confirming: &Confirming,
) -> Result<(), Refusal> {
    let confirm = Confirm::open(bytes, terms.context(), |body| terms.key(body.from))?;
    sender(from, confirm.from)?;
    if !confirming.survived(from) || confirm.survivors != confirming.digest {
        return Err(Refusal::OtherSurvivors(from));
    }
    Ok(())
}

/// One share of each dealer: the one that the survivors decide.
fn believed_answer(
    terms: &Terms,
    from: SiteId,
    bytes: &[u8],
    list: &Confirming,
) -> Result<Vec<(SiteId, Secret)>, Refusal> {
    let answer = Unmask::open(bytes, terms.context(), |body| terms.key(body.from))?;
    sender(from, answer.from)?;
    if !list.survived(from) || answer.survivors != list.digest {
        return Err(Refusal::OtherSurvivors(from));
    }
    if !(list.dealers.by_site.keys()).eq(answer.opened.iter().map(|(dealer, _)| dealer)) {
        return Err(Refusal::OtherShares(from));
    }
    (answer.opened.into_iter())
        .map(|(dealer, opened)| match (opened, list.which(dealer)) {
            (Opened::SelfMask(share), Which::SelfMask) => Ok((dealer, share)),
            (Opened::Escrow(share), Which::Escrow) => Ok((dealer, share)),
            _ => Err(Refusal::OtherShares(from)),
        })
        .collect()
}

/// Keeps the shares that are what their dealers committed to, and blames the holder of the others:
/// when it uploaded it said, signed, that it had the right ones.
fn keep_sound(
    terms: &Terms,
    holder: SiteId,
    opened: Vec<(SiteId, Secret)>,
    unmasking: &mut Unmasking,
) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (dealer, share) in opened {
        let which = unmasking.list.which(dealer);
        let digest = which.share_digest(terms.context(), dealer, holder, &share);
        let committed = (unmasking.list.dealers.by_site.get(&dealer))
            .and_then(|dealer| dealer.share_digest(holder, which));
        if committed == Some(&digest) {
            unmasking
                .shares
                .entry(dealer)
                .or_default()
                .insert(holder, share);
        } else {
            effects.push(Effect::Blame { holder, dealer });
        }
    }
    effects
}
