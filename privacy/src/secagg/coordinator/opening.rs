//! From shares to the masks that are left in the sum of the survivors' uploads.

use std::fmt;

use super::{
    Failure,
    collecting::{Confirming, Dealer, Unmasking},
};
use crate::secagg::{
    SiteId,
    encoding::Words,
    generator::{self, Mask, Role, Sign},
    keys::{Which, edge_commitment, escrow_context, escrow_key},
    message::{LENGTH, Secret, Survivor},
    shamir,
    site::sign_of,
    terms::Terms,
};

/// Which uploads to add, and the masks to take away from their sum. Part by part: memory is that
/// of the part.
pub struct Opening {
    survivors: Vec<Survivor>,
    masks: Vec<Mask>,
}

impl Opening {
    /// Whose uploads to add, by ascending number, with the digest of each.
    pub fn survivors(&self) -> &[Survivor] {
        &self.survivors
    }

    /// Masks in the sum.
    pub fn masks(&self) -> usize {
        self.masks.len()
    }

    /// Takes the masks away from a part of the sum, whose first word is `first`. On all cores.
    pub fn remove(&self, first: usize, part: &mut Words) {
        generator::apply(&self.masks, first, part);
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (survivors, masks) = (self.survivors.len(), self.masks.len());
        write!(f, "Opening({survivors} uploads, {masks} masks, [redacted])")
    }
}

/// Opens each survivor's self mask, and the masks that each of the others shares with survivors.
pub(super) fn open(terms: &Terms, unmasking: &Unmasking) -> Result<Opening, Failure> {
    let list = &unmasking.list;
    let context = terms.context();
    let mut masks = Vec::new();
    for (site, dealer) in &list.dealers.by_site {
        let secret = secret_of(terms, unmasking, *site, dealer)?;
        if list.survived(*site) {
            masks.push(Mask::new(context, &secret, Role::Own, Sign::Minus));
            continue;
        }
        for (peer, seed) in seeds_of(terms, list, dealer, &secret)? {
            // What the survivor did with the mask is undone.
            let sign = sign_of(peer, *site).opposite();
            masks.push(Mask::new(context, &seed, Role::Pair, sign));
        }
    }
    Ok(Opening {
        survivors: list.list.survivors.clone(),
        masks,
    })
}

/// One of a dealer's secrets, from as many sound shares as the threshold says.
fn secret_of(
    terms: &Terms,
    unmasking: &Unmasking,
    site: SiteId,
    dealer: &Dealer,
) -> Result<Secret, Failure> {
    let threshold = terms.threshold();
    let shares: Vec<(u8, &Secret)> = (unmasking.shares.get(&site).into_iter().flatten())
        .filter_map(|(holder, share)| Some((terms.point(*holder)?, share)))
        .take(threshold)
        .collect();
    if shares.len() < threshold {
        return Err(Failure::TooFewShares(site));
    }
    let which = unmasking.list.which(site);
    let committed = match which {
        Which::SelfMask => &dealer.dealing.secrets[0],
        Which::Escrow => &dealer.dealing.secrets[1],
    };
    shamir::combine(&shares)
        .filter(|secret| same(&which.commitment(terms.context(), site, secret), committed))
        .ok_or(Failure::BadDealer(site))
}

/// The seeds of the masks that a site that dropped out shares with survivors.
fn seeds_of(
    terms: &Terms,
    list: &Confirming,
    dealer: &Dealer,
    escrow: &Secret,
) -> Result<Vec<(SiteId, Secret)>, Failure> {
    let context = terms.context();
    let site = dealer.dealing.from;
    let bad = Failure::BadDealer(site);
    let opened = escrow_key(context, escrow, site)
        .open(&escrow_context(context, site), &dealer.dealing.escrow)
        .map_err(|_| bad.clone())?;
    let mut seeds = Vec::new();
    for (dealt, seed) in dealer.dealing.dealt.iter().zip(opened.chunks_exact(LENGTH)) {
        if !list.survived(dealt.to) {
            continue;
        }
        let mut mask = Secret::default();
        mask.copy_from_slice(seed);
        if !same(
            &edge_commitment(context, site, dealt.to, &mask),
            &dealt.edge,
        ) {
            return Err(bad);
        }
        seeds.push((dealt.to, mask));
    }
    Ok(seeds)
}

/// Compares commitments to secrets in constant time.
fn same(a: &[u8; LENGTH], b: &[u8; LENGTH]) -> bool {
    subtle::ConstantTimeEq::ct_eq(a.as_slice(), b.as_slice()).into()
}
