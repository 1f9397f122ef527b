//! Keys and shares: agreeing with every peer, and dealing each a share of both secrets.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{Violation, Voice, uploading::Ready};
use crate::{
    keystream::{Keystream, NoRandomness},
    secagg::{
        SiteId,
        context::{Context, sha256},
        keys::{
            Edge, End, MessageKey, PairSecret, Which, edge_commitment, escrow_context, escrow_key,
            shares_context,
        },
        message::{
            Dealt, Echo, LENGTH, Opened, PairKey, PairKeys, PeerShares, SEALED_SHARES, Secret,
            Shares,
        },
        shamir,
        signature::Body,
    },
};

/// Has sent its keys.
pub(super) struct AwaitingKeys {
    /// For each peer, with the public half.
    secrets: BTreeMap<SiteId, (PairSecret, [u8; LENGTH])>,
    coins: Keystream,
}

impl AwaitingKeys {
    /// Makes a key for each peer.
    pub(super) fn open(
        voice: &Voice,
        secrets: Vec<PairSecret>,
        coins: Keystream,
    ) -> Result<(Self, Vec<Vec<u8>>), NoRandomness> {
        let peers = (voice.terms.members().iter())
            .map(|member| member.id)
            .filter(|id| *id != voice.me);
        let secrets = (peers.zip(secrets))
            .map(|(peer, secret)| {
                let public = secret.public()?;
                Ok((peer, (secret, public)))
            })
            .collect::<Result<BTreeMap<_, _>, NoRandomness>>()?;
        let keys = (secrets.iter())
            .map(|(to, (_, key))| {
                let (from, to, key) = (voice.me, *to, *key);
                PairKey { from, to, key }.sign(voice.terms.context(), &*voice.signer)
            })
            .collect();
        Ok((Self { secrets, coins }, keys))
    }

    /// Agrees with every peer that sent a key, and deals.
    pub(super) fn deal(
        mut self,
        voice: &Voice,
        keys: &[u8],
    ) -> Result<(AwaitingShares, Vec<u8>), Violation> {
        let Voice { terms, me, .. } = voice;
        let context = terms.context();
        let keys = self.believed(voice, keys)?;
        let (found, needed) = (keys.len() + 1, terms.threshold());
        if found < needed {
            return Err(Violation::TooFewKeys { found, needed });
        }
        let mut edges = Vec::with_capacity(keys.len());
        for PairKey { from, key, .. } in keys {
            // `believed` has found each sender once.
            let Some((secret, own)) = self.secrets.remove(&from) else {
                return Err(Violation::Unsorted(from));
            };
            let own = End {
                site: *me,
                key: own,
            };
            let peer = End { site: from, key };
            let edge = Edge::agree(context, secret, own, peer)
                .map_err(|_| Violation::LowOrderKey(from))?;
            edges.push((from, edge));
        }

        let self_mask = random(&mut self.coins);
        let escrow = random(&mut self.coins);
        let (threshold, holders) = (terms.threshold(), terms.members().len());
        let mut deck = Deck {
            voice,
            self_mask: shamir::split(&self_mask, threshold, holders, &mut self.coins),
            escrow: shamir::split(&escrow, threshold, holders, &mut self.coins),
        };
        let own = deck.take(*me);
        let mut seeds = Zeroizing::new(Vec::with_capacity(edges.len() * LENGTH));
        let mut dealt = Vec::with_capacity(edges.len());
        let mut peers = BTreeMap::new();
        for (to, edge) in edges {
            let Edge {
                mask,
                outgoing,
                incoming,
            } = edge;
            seeds.extend_from_slice(mask.as_slice());
            let held = deck.take(to);
            dealt.push(Dealt {
                to,
                sealed: held.seal(outgoing, &shares_context(context, *me, to)),
                edge: edge_commitment(context, *me, to, &mask),
                shares: held.digests(context, *me, to),
            });
            peers.insert(to, Peer { mask, incoming });
        }
        let sealed_seeds =
            escrow_key(context, &escrow, *me).seal(&escrow_context(context, *me), &seeds);
        let shares = Shares {
            from: *me,
            secrets: [
                Which::SelfMask.commitment(context, *me, &self_mask),
                Which::Escrow.commitment(context, *me, &escrow),
            ],
            own: own.digests(context, *me, *me),
            dealt,
            escrow: sealed_seeds,
        }
        .sign(context, &*voice.signer);
        let awaiting = AwaitingShares {
            self_mask,
            own,
            peers,
            dealt: sha256(&[&shares]),
        };
        Ok((awaiting, shares))
    }

    /// Keys that their makers signed for this site in this attempt, one of each.
    fn believed(&self, voice: &Voice, keys: &[u8]) -> Result<Vec<PairKey>, Violation> {
        let mut believed: Vec<PairKey> = Vec::new();
        for message in PairKeys::from_bytes(keys)?.0 {
            let key = PairKey::open(&message, voice.terms.context(), |key| {
                voice.terms.key(key.from)
            })?;
            let from = key.from;
            if from == voice.me {
                return Err(Violation::Reflected(from));
            }
            if key.to != voice.me {
                return Err(Violation::ForAnother { from, to: key.to });
            }
            if believed.last().is_some_and(|last| last.from >= from) {
                return Err(Violation::Unsorted(from));
            }
            if let Some(other) = believed.iter().find(|other| other.key == key.key) {
                return Err(Violation::SharedKey(other.from, from));
            }
            if self.secrets.values().any(|(_, own)| *own == key.key) {
                return Err(Violation::Reflected(from));
            }
            believed.push(key);
        }
        Ok(believed)
    }
}

fn random(coins: &mut Keystream) -> Secret {
    let mut secret = Secret::default();
    for part in secret.chunks_mut(size_of::<u64>()) {
        part.copy_from_slice(&coins.word().to_le_bytes());
    }
    secret
}

/// Shares not yet dealt.
struct Deck<'a> {
    voice: &'a Voice,
    self_mask: Vec<Secret>,
    escrow: Vec<Secret>,
}

impl Deck<'_> {
    fn take(&mut self, holder: SiteId) -> Held {
        // Only members of the cohort are dealt to, and their points are 1 to its size.
        let point = self
            .voice
            .terms
            .point(holder)
            .expect("a holder is a member");
        let index = usize::from(point) - 1;
        Held {
            self_mask: std::mem::take(&mut self.self_mask[index]),
            escrow: std::mem::take(&mut self.escrow[index]),
        }
    }
}

/// One dealer's two shares for one holder.
pub(super) struct Held {
    self_mask: Secret,
    escrow: Secret,
}

impl Held {
    fn seal(&self, key: MessageKey, associated: &[u8]) -> [u8; SEALED_SHARES] {
        let mut both = Zeroizing::new([0; 2 * LENGTH]);
        both[..LENGTH].copy_from_slice(self.self_mask.as_slice());
        both[LENGTH..].copy_from_slice(self.escrow.as_slice());
        let mut sealed = [0; SEALED_SHARES];
        sealed.copy_from_slice(&key.seal(associated, both.as_slice()));
        sealed
    }

    fn open(key: MessageKey, associated: &[u8], sealed: &[u8; SEALED_SHARES]) -> Option<Self> {
        let both = key.open(associated, sealed).ok()?;
        let (self_mask, escrow) = both.split_first_chunk()?;
        Some(Self {
            self_mask: Secret::new(*self_mask),
            escrow: Secret::new(escrow.try_into().ok()?),
        })
    }

    fn digests(&self, context: &Context, dealer: SiteId, holder: SiteId) -> [[u8; LENGTH]; 2] {
        [
            Which::SelfMask.share_digest(context, dealer, holder, &self.self_mask),
            Which::Escrow.share_digest(context, dealer, holder, &self.escrow),
        ]
    }

    /// Gives one of the two and wipes the other.
    pub(super) fn reveal(self, survived: bool) -> Opened {
        if survived {
            Opened::SelfMask(self.self_mask)
        } else {
            Opened::Escrow(self.escrow)
        }
    }
}

/// What is needed of a peer until its shares come.
struct Peer {
    mask: Secret,
    incoming: MessageKey,
}

/// Has dealt.
pub(super) struct AwaitingShares {
    self_mask: Secret,
    own: Held,
    peers: BTreeMap<SiteId, Peer>,
    /// Digest of its own signed shares.
    dealt: [u8; LENGTH],
}

impl AwaitingShares {
    /// Opens what every dealer sealed for this site.
    pub(super) fn receive(mut self, voice: &Voice, message: &[u8]) -> Result<Ready, Violation> {
        let Voice { terms, me, .. } = voice;
        let context = terms.context();
        let message = PeerShares::open(message, context, |_| Some(terms.coordinator()))?;
        if message.to != *me {
            let (from, to) = (*me, message.to);
            return Err(Violation::ForAnother { from, to });
        }
        if let Some(pair) = message
            .peers
            .windows(2)
            .find(|pair| pair[0].from >= pair[1].from)
        {
            return Err(Violation::Unsorted(pair[1].from));
        }
        let (found, needed) = (message.peers.len(), terms.least_peers());
        if found < needed {
            return Err(Violation::TooFewDealers { found, needed });
        }
        let own_is_there =
            (message.peers.iter()).any(|peer| peer.from == *me && peer.digest == self.dealt);
        if !own_is_there {
            return Err(Violation::OwnSharesChanged);
        }
        let dealers = dealers_digest(
            context,
            message.peers.iter().map(|peer| (peer.from, peer.digest)),
        );
        let mut edges = BTreeMap::new();
        let mut held = BTreeMap::from([(*me, self.own)]);
        let mut echoes = Vec::with_capacity(message.peers.len());
        for dealer in message.peers.iter().filter(|peer| peer.from != *me) {
            let from = dealer.from;
            let Some(Peer { mask, incoming }) = self.peers.remove(&from) else {
                return Err(Violation::UnknownDealer(from));
            };
            let shares = Held::open(
                incoming,
                &shares_context(context, from, *me),
                &dealer.sealed,
            )
            .ok_or(Violation::DoesNotOpen(from))?;
            echoes.push(Echo {
                from,
                shares: shares.digests(context, from, *me),
            });
            edges.insert(from, mask);
            held.insert(from, shares);
        }
        Ok(Ready::new(self.self_mask, edges, held, dealers, echoes))
    }
}

/// What all sites must have been told alike: who has dealt, and what.
pub(in crate::secagg) fn dealers_digest(
    context: &Context,
    dealers: impl Iterator<Item = (SiteId, [u8; LENGTH])>,
) -> [u8; LENGTH] {
    let mut bytes = b"consilium/sa1/dealers\0".to_vec();
    bytes.extend_from_slice(context.as_bytes());
    for (site, digest) in dealers {
        bytes.extend_from_slice(&site.0.to_be_bytes());
        bytes.extend_from_slice(&digest);
    }
    sha256(&[&bytes])
}
