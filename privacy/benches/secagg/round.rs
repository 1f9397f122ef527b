//! A round between the real state machines, as far as a measurement needs it.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use consilium_privacy::secagg::{
    Attempt, Context, Coordinator, Limits, Member, Proposal, PublicKey, Repeats, Site, SiteId,
    Spooled, Terms,
    coordinator::{self, Opening, Schedule},
    encoding::{Encoding, Word, encode},
    message::{ToCoordinator, ToSite},
    site::{self, History},
};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::processor_seconds;

/// One federation in one attempt.
pub(crate) struct Round {
    pub(crate) terms: Terms,
    pub(crate) sites: BTreeMap<SiteId, Site>,
    coordinator: Coordinator,
    /// Messages that the first site sent, without its upload.
    pub(crate) sent: usize,
    /// Processor time that the first site took for keys and shares.
    pub(crate) setup: f64,
    /// Processor time of the coordinator for messages, from keys to the open sum.
    pub(crate) messages: f64,
    waiting: Vec<(SiteId, ToSite)>,
    opening: Option<Opening>,
}

fn key(seed: u8, number: u16) -> Ed25519KeyPair {
    let mut bytes = [seed; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    Ed25519KeyPair::from_seed_unchecked(&bytes).expect("any seed")
}

fn public(key: &Ed25519KeyPair) -> PublicKey {
    PublicKey(key.public_key().as_ref().try_into().expect("32 bytes"))
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH
}

fn later() -> SystemTime {
    now() + Duration::from_secs(1)
}

/// The first site, whose costs are measured. It stays to the end.
pub(crate) const FIRST: SiteId = SiteId(1);

impl Round {
    /// Keys and shares are exchanged; all sites are ready to upload.
    pub(crate) fn ready(sites: u16, length: usize, threshold: usize) -> Self {
        let members = (1..=sites)
            .map(|number| Member {
                id: SiteId(number),
                key: public(&key(1, number)),
            })
            .collect();
        let proposal = Proposal {
            context: Context::of(b"bench"),
            attempt: Attempt {
                study: [0; 16],
                round: 1,
                attempt: 1,
            },
            members,
            coordinator: public(&key(2, 0)),
            threshold,
            encoding: Encoding::Weighted {
                bound: 1.0,
                weight_max: 64,
                grid: Encoding::finest_grid(Word::U32, sites.into(), 64).expect("room"),
            },
            word: Word::U32,
            main: length,
            tail: vec![],
            repeats: Repeats::Free,
            deadline: later(),
        };
        let terms = Terms::new(proposal, Limits::USUAL).expect("sound terms");
        let until = later();
        let schedule = Schedule {
            keys: until,
            shares: until,
            uploads: until,
            confirmations: until,
            answers: until,
        };
        let mut round = Self {
            coordinator: Coordinator::open(terms.clone(), schedule, Box::new(key(2, 0))),
            terms,
            sites: BTreeMap::new(),
            sent: 0,
            setup: 0.0,
            messages: 0.0,
            waiting: Vec::new(),
            opening: None,
        };
        for number in 1..=sites {
            let (site, history) = (SiteId(number), History::default());
            let start = processor_seconds();
            let (machine, effects) = Site::open(
                round.terms.clone(),
                site,
                Box::new(key(1, number)),
                &history,
                now(),
            )
            .expect("randomness");
            round.charge(site, start);
            round.sites.insert(site, machine);
            round.perform(site, effects);
        }
        round.deliver();
        round
    }

    /// The sites beyond the first `staying` drop out before they upload; the others go on until
    /// the sum is open. For short vectors.
    pub(crate) fn open(mut self, staying: u16) -> (Opening, f64) {
        let update = vec![0.0; self.terms.main()];
        for number in 1..=staying {
            let vector = encode(&self.terms, &update, 1, &[]).expect("within the terms");
            let input = site::Input::Update {
                vector,
                sequence: None,
            };
            let site = self.sites.get_mut(&SiteId(number)).expect("a member");
            let effects = site.handle(input, now()).expect("ready");
            self.perform(SiteId(number), effects);
        }
        if usize::from(staying) < self.terms.members().len() {
            let closed = self.coordinator.handle(coordinator::Input::Close, now());
            self.obey(closed.expect("uploads are awaited"));
        }
        self.deliver();
        (self.opening.expect("enough have answered"), self.messages)
    }

    fn charge(&mut self, site: SiteId, start: f64) {
        if site == FIRST {
            self.setup += processor_seconds() - start;
        }
    }

    fn deliver(&mut self) {
        while !self.waiting.is_empty() {
            for (to, message) in std::mem::take(&mut self.waiting) {
                let site = self.sites.get_mut(&to).expect("a member");
                let start = processor_seconds();
                let effects = site.handle(site::Input::Message(message), now());
                self.charge(to, start);
                self.perform(to, effects.expect("an honest coordinator"));
            }
        }
    }

    pub(crate) fn perform(&mut self, from: SiteId, effects: Vec<site::Effect>) {
        let mut spooled = None;
        for effect in effects {
            let message = match effect {
                site::Effect::Upload(vector) => {
                    let (length, digest) = (self.terms.bytes(), *vector.digest());
                    spooled = Some(Spooled { length, digest });
                    continue;
                }
                site::Effect::Send(message) => message,
                site::Effect::Persist(_) | site::Effect::Concluded(_) => continue,
            };
            if from == FIRST {
                self.sent += message.bytes().len();
            }
            let input = match (message, spooled) {
                (ToCoordinator::Trailer(trailer), Some(spooled)) => coordinator::Input::Uploaded {
                    from,
                    trailer,
                    spooled,
                },
                (message, _) => coordinator::Input::Message { from, message },
            };
            let start = processor_seconds();
            // Answers beyond the threshold come too late, and are refused.
            let effects = self.coordinator.handle(input, now()).unwrap_or_default();
            self.messages += processor_seconds() - start;
            self.obey(effects);
        }
    }

    fn obey(&mut self, effects: Vec<coordinator::Effect>) {
        for effect in effects {
            match effect {
                coordinator::Effect::Send { to, message } => self.waiting.push((to, message)),
                coordinator::Effect::Open(opening) => self.opening = Some(*opening),
                _ => {}
            }
        }
    }
}
