//! Sites, a coordinator, and a network that a test may listen to, cut and forge.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::{
    keystream::{Keystream, MasterSecret},
    secagg::{
        Attempt, Context, Limits, Member, Proposal, PublicKey, Repeats, Signer, SiteId, Spooled,
        Terms,
        coordinator::{self, Coordinator, Failure, Opening, Schedule},
        encoding::{Encoding, Implausible, SumReader, Word, Words, encode_with},
        keys::PairSecret,
        message::{Opened, Survivors, ToCoordinator, ToSite, Unmask},
        signature::Body,
        site::{self, Ending, Site, Stop, Violation},
        upload::Receiving,
    },
};

pub(super) fn id(number: u16) -> SiteId {
    SiteId(number)
}

pub(super) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

pub(super) fn after(seconds: u64) -> SystemTime {
    start() + Duration::from_secs(seconds)
}

/// A federation's identity keys, and what its rounds say.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) sites: u16,
    pub(super) threshold: usize,
    pub(super) limits: Limits,
    pub(super) main: usize,
    pub(super) word: Word,
    pub(super) weight_max: u32,
    pub(super) tail: Vec<f64>,
    pub(super) attempt: Attempt,
    pub(super) repeats: Repeats,
    /// Stands for everything else in the round's specification.
    pub(super) model: Vec<u8>,
}

impl Setting {
    /// Five sites, of which one may drop out and one may collude.
    pub(super) fn five() -> Self {
        Self {
            sites: 5,
            threshold: 4,
            limits: Limits::USUAL,
            main: 40,
            word: Word::U32,
            weight_max: 64,
            tail: vec![10.0],
            attempt: Attempt {
                study: [3; 16],
                round: 2,
                attempt: 1,
            },
            repeats: Repeats::Free,
            model: b"model".to_vec(),
        }
    }

    pub(super) fn context(&self) -> Context {
        let Attempt { round, attempt, .. } = self.attempt;
        let spec = format!("{:?} {round} {attempt} {}", self.model, self.main);
        Context::of(spec.as_bytes())
    }

    pub(super) fn proposal(&self) -> Proposal {
        let sites = usize::from(self.sites);
        Proposal {
            context: self.context(),
            attempt: self.attempt,
            members: (1..=self.sites)
                .map(|number| Member {
                    id: id(number),
                    key: public(&site_key(id(number))),
                })
                .collect(),
            coordinator: public(&coordinator_key()),
            threshold: self.threshold,
            encoding: Encoding::Weighted {
                bound: 2.0,
                weight_max: self.weight_max,
                grid: Encoding::finest_grid(self.word, sites, self.weight_max).expect("room"),
            },
            word: self.word,
            main: self.main,
            tail: self.tail.clone(),
            repeats: self.repeats,
            deadline: after(1000),
        }
    }

    pub(super) fn terms(&self) -> Terms {
        Terms::new(self.proposal(), self.limits).expect("sound terms")
    }
}

fn key(seed: u8, number: u16) -> Arc<Ed25519KeyPair> {
    let mut bytes = [seed; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    Arc::new(Ed25519KeyPair::from_seed_unchecked(&bytes).expect("any seed"))
}

pub(super) fn site_key(site: SiteId) -> Arc<Ed25519KeyPair> {
    key(1, site.0)
}

pub(super) fn coordinator_key() -> Arc<Ed25519KeyPair> {
    key(2, 0)
}

fn public(key: &Ed25519KeyPair) -> PublicKey {
    PublicKey(key.public_key().as_ref().try_into().expect("32 bytes"))
}

pub(super) fn schedule() -> Schedule {
    Schedule {
        keys: after(100),
        shares: after(200),
        uploads: after(300),
        confirmations: after(400),
        answers: after(500),
    }
}

/// What a site trains to: of norm below 1, different for each.
pub(super) fn update_of(site: SiteId, length: usize) -> Vec<f32> {
    (0..length)
        .map(|i| {
            let value = (i * 7 + usize::from(site.0) * 3) % 11;
            (value as f32 - 5.0) / (8.0 * (length as f32).sqrt())
        })
        .collect()
}

pub(super) fn weight_of(site: SiteId) -> u32 {
    1 + u32::from(site.0) % 3
}

/// What the network does to messages.
pub(super) struct Network<'a> {
    pub(super) up: Box<dyn FnMut(SiteId, ToCoordinator) -> Option<ToCoordinator> + 'a>,
    pub(super) down: Box<dyn FnMut(SiteId, ToSite) -> Vec<ToSite> + 'a>,
}

impl<'a> Network<'a> {
    pub(super) fn honest() -> Self {
        Self {
            up: Box::new(|_, message| Some(message)),
            down: Box::new(|_, message| vec![message]),
        }
    }

    /// A coordinator, or a network, that says what it likes to sites.
    pub(super) fn down(change: impl FnMut(SiteId, ToSite) -> Vec<ToSite> + 'a) -> Self {
        Self {
            down: Box::new(change),
            ..Self::honest()
        }
    }

    /// Sites that say what they like, or nothing.
    pub(super) fn up(
        change: impl FnMut(SiteId, ToCoordinator) -> Option<ToCoordinator> + 'a,
    ) -> Self {
        Self {
            up: Box::new(change),
            ..Self::honest()
        }
    }
}

/// Chosen private keys, one for each peer.
pub(super) fn fixed_secrets(site: SiteId, sites: u16) -> Vec<PairSecret> {
    (1..sites)
        .map(|peer| {
            let mut bytes = [site.0 as u8; 32];
            bytes[1] = peer as u8;
            PairSecret::Fixed(bytes.into())
        })
        .collect()
}

pub(super) fn fixed_coins(site: SiteId, purpose: u8) -> Keystream {
    let mut bytes = [site.0 as u8; 32];
    bytes[31] = purpose;
    Keystream::new(MasterSecret::fixed(bytes).into_pages())
}

enum Mail {
    Up(SiteId, ToCoordinator),
    Down(SiteId, ToSite),
}

/// Whose shares of one dealer have left sites.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) self_mask: BTreeSet<SiteId>,
    pub(super) escrow: BTreeSet<SiteId>,
}

pub(super) struct Federation {
    pub(super) terms: Terms,
    pub(super) sites: BTreeMap<SiteId, Site>,
    pub(super) coordinator: Coordinator,
    /// Vectors in the clear, and masked, of the sites that uploaded.
    pub(super) clear: BTreeMap<SiteId, Words>,
    pub(super) uploads: BTreeMap<SiteId, Words>,
    pub(super) stops: BTreeMap<SiteId, Stop>,
    pub(super) refusals: Vec<(SiteId, coordinator::Refusal)>,
    pub(super) blamed: Vec<(SiteId, SiteId)>,
    pub(super) complaints: usize,
    pub(super) failure: Option<Failure>,
    pub(super) opening: Option<Opening>,
    pub(super) journal: Vec<coordinator::Record>,
    pub(super) site_journals: BTreeMap<SiteId, Vec<site::Record>>,
    /// Every share that left a site, by dealer.
    pub(super) seen: BTreeMap<SiteId, Seen>,
    /// Messages that came down and went up, as a listener has them.
    pub(super) heard: Vec<(SiteId, ToSite)>,
    pub(super) said: Vec<(SiteId, ToCoordinator)>,
    queue: VecDeque<Mail>,
    fixed: bool,
}

impl Federation {
    pub(super) fn open(setting: &Setting) -> Self {
        Self::open_each(setting, |_| setting.terms())
    }

    /// With randomness that is always the same, for known answers.
    pub(super) fn open_fixed(setting: &Setting) -> Self {
        Self::open_as(setting, |_| setting.terms(), true)
    }

    /// Sites may have been told different specifications.
    pub(super) fn open_each(setting: &Setting, terms_of: impl Fn(SiteId) -> Terms) -> Self {
        Self::open_as(setting, terms_of, false)
    }

    fn open_as(setting: &Setting, terms_of: impl Fn(SiteId) -> Terms, fixed: bool) -> Self {
        let terms = setting.terms();
        let signer: Box<dyn Signer> = Box::new(coordinator_key());
        let mut federation = Self {
            coordinator: Coordinator::open(terms.clone(), schedule(), signer),
            terms: terms.clone(),
            sites: BTreeMap::new(),
            clear: BTreeMap::new(),
            uploads: BTreeMap::new(),
            stops: BTreeMap::new(),
            refusals: Vec::new(),
            blamed: Vec::new(),
            complaints: 0,
            failure: None,
            opening: None,
            journal: Vec::new(),
            site_journals: BTreeMap::new(),
            seen: BTreeMap::new(),
            heard: Vec::new(),
            said: Vec::new(),
            queue: VecDeque::new(),
            fixed,
        };
        for member in terms.members() {
            let site = member.id;
            let signer = Box::new(site_key(site));
            let (own, history) = (terms_of(site), Default::default());
            let opened = match fixed {
                true => Site::open_with(
                    own,
                    site,
                    signer,
                    &history,
                    start(),
                    fixed_secrets(site, setting.sites),
                    fixed_coins(site, 1),
                ),
                false => Site::open(own, site, signer, &history, start()),
            };
            let (machine, effects) = opened.expect("a member with randomness");
            federation.sites.insert(site, machine);
            federation.perform(site, effects);
        }
        federation
    }

    /// Runs until the sum is open or nothing more comes, closing phases on the silent.
    pub(super) fn run(&mut self, network: &mut Network<'_>) -> &mut Self {
        loop {
            while let Some(mail) = self.queue.pop_front() {
                match mail {
                    Mail::Up(from, message) => {
                        if let Some(message) = (network.up)(from, message) {
                            self.tell_coordinator(from, message);
                        }
                    }
                    Mail::Down(to, message) => {
                        for message in (network.down)(to, message) {
                            self.tell_site(to, message);
                        }
                    }
                }
            }
            match self.coordinator.handle(coordinator::Input::Close, start()) {
                Ok(effects) => self.obey(effects),
                Err(_) => return self,
            }
        }
    }

    /// Delivers messages one by one until a test has seen enough.
    pub(super) fn run_until(&mut self, mut enough: impl FnMut(&Self) -> bool) {
        while !enough(self) {
            match self.queue.pop_front() {
                Some(Mail::Up(from, message)) => self.tell_coordinator(from, message),
                Some(Mail::Down(to, message)) => self.tell_site(to, message),
                None => return,
            }
        }
    }

    /// Puts a coordinator in the place of the one that stopped. What that one had not written
    /// down it never said; sites say again what they are not known to have said.
    pub(super) fn restart(&mut self, coordinator: Coordinator, effects: Vec<coordinator::Effect>) {
        self.coordinator = coordinator;
        (self.opening, self.failure) = (None, None);
        self.queue.clear();
        self.obey(effects);
        for (from, message) in self.said.clone() {
            self.queue.push_back(Mail::Up(from, message));
        }
    }

    /// The sum has moved the model.
    pub(super) fn publish(&mut self, sum: [u8; 32], model: [u8; 32]) {
        let input = coordinator::Input::Published { sum, model };
        let effects = self
            .coordinator
            .handle(input, start())
            .expect("an open sum");
        self.obey(effects);
    }

    pub(super) fn run_honestly(&mut self) -> &mut Self {
        self.run(&mut Network::honest())
    }

    pub(super) fn tell_coordinator(&mut self, from: SiteId, message: ToCoordinator) {
        let input = match message {
            ToCoordinator::Trailer(trailer) => coordinator::Input::Uploaded {
                from,
                trailer,
                spooled: self.spool(from),
            },
            message => coordinator::Input::Message { from, message },
        };
        match self.coordinator.handle(input, start()) {
            Ok(effects) => self.obey(effects),
            Err(refusal) => self.refusals.push((from, refusal)),
        }
    }

    fn spool(&self, from: SiteId) -> Spooled {
        let mut receiving = Receiving::new(&self.terms);
        if let Some(words) = self.uploads.get(&from) {
            let bytes = words.bytes(0..words.len());
            receiving.take(0, &bytes).expect("as long as the terms say");
        }
        receiving.finish().unwrap_or(Spooled {
            length: 0,
            digest: [0; 32],
        })
    }

    pub(super) fn tell_site(&mut self, to: SiteId, message: ToSite) {
        self.heard.push((to, message.clone()));
        let Some(site) = self.sites.get_mut(&to) else {
            return;
        };
        match site.handle(site::Input::Message(message), start()) {
            Ok(effects) => self.perform(to, effects),
            Err(site::Refusal::Stopped(stop)) => {
                assert!(site.ending().is_some(), "a site that stops is over");
                self.queue.push_back(Mail::Up(to, stop.complaint.clone()));
                self.stops.insert(to, *stop);
            }
            Err(_) => {}
        }
        if self.sites.get(&to).is_some_and(Site::is_ready) {
            self.upload(to);
        }
    }

    fn upload(&mut self, from: SiteId) {
        let terms = self.terms.clone();
        let tail: Vec<f64> = terms.tail().iter().map(|most| most / 4.0).collect();
        let Some(site) = self.sites.get_mut(&from) else {
            return;
        };
        let own = site.terms().clone();
        let update = update_of(from, own.main());
        let mut coins = match self.fixed {
            true => fixed_coins(from, 2),
            false => Keystream::new(MasterSecret::random().expect("randomness").into_pages()),
        };
        let vector = encode_with(&own, &update, weight_of(from), &tail, &mut coins)
            .expect("within the terms");
        self.clear.insert(from, vector.words().clone());
        let sequence = Some(7);
        let effects = (site.handle(site::Input::Update { vector, sequence }, start()))
            .expect("a site that is ready");
        self.perform(from, effects);
    }

    fn perform(&mut self, from: SiteId, effects: Vec<site::Effect>) {
        for effect in effects {
            match effect {
                site::Effect::Persist(record) => {
                    self.site_journals.entry(from).or_default().push(record);
                }
                site::Effect::Upload(vector) => {
                    let mut words = Words::zeros(self.terms.word(), vector.len());
                    assert!(words.add(&vector.bytes(0..vector.len())));
                    self.uploads.insert(from, words);
                }
                site::Effect::Send(message) => {
                    self.note(from, &message);
                    self.said.push((from, message.clone()));
                    self.queue.push_back(Mail::Up(from, message));
                }
                site::Effect::Concluded(_) => {}
            }
        }
    }

    /// What an eavesdropper at the coordinator learns of shares.
    fn note(&mut self, from: SiteId, message: &ToCoordinator) {
        let ToCoordinator::Unmask(bytes) = message else {
            return;
        };
        let answer = Unmask::from_bytes(&bytes[64..]).expect("a site's own answer");
        for (dealer, opened) in answer.opened {
            let seen = self.seen.entry(dealer).or_default();
            match opened {
                Opened::SelfMask(_) => seen.self_mask.insert(from),
                Opened::Escrow(_) => seen.escrow.insert(from),
            };
        }
    }

    fn obey(&mut self, effects: Vec<coordinator::Effect>) {
        for effect in effects {
            match effect {
                coordinator::Effect::Persist(record) => self.journal.push(record),
                coordinator::Effect::Send { to, message } => {
                    self.queue.push_back(Mail::Down(to, message));
                }
                coordinator::Effect::Open(opening) => self.opening = Some(*opening),
                coordinator::Effect::Blame { holder, dealer } => {
                    self.blamed.push((holder, dealer));
                }
                coordinator::Effect::Complained(_) => self.complaints += 1,
                coordinator::Effect::Failed(failure) => self.failure = Some(failure),
            }
        }
    }

    /// The unmasked sum.
    pub(super) fn sum(&self) -> Words {
        let opening = self.opening.as_ref().expect("an open sum");
        let mut sum = Words::zeros(self.terms.word(), self.terms.length());
        for survivor in opening.survivors() {
            let words = &self.uploads[&survivor.site];
            assert!(sum.add(&words.bytes(0..words.len())));
        }
        opening.remove(0, &mut sum);
        sum
    }

    /// What it must be.
    pub(super) fn sum_in_the_clear(&self) -> Words {
        let opening = self.opening.as_ref().expect("an open sum");
        let mut sum = Words::zeros(self.terms.word(), self.terms.length());
        for survivor in opening.survivors() {
            let words = &self.clear[&survivor.site];
            assert!(sum.add(&words.bytes(0..words.len())));
        }
        sum
    }

    /// Reads the sum's tail.
    pub(super) fn reader(&self, sum: &Words) -> Result<SumReader, Implausible> {
        let mut tail = Words::zeros(sum.word(), sum.len() - self.terms.main());
        assert!(tail.add(&sum.bytes(self.terms.main()..sum.len())));
        let survivors = self.opening.as_ref().map_or(0, |it| it.survivors().len());
        SumReader::new(&self.terms, survivors, &tail)
    }

    /// This site has stopped for this reason, holds no secrets any more, and its shares never left.
    pub(super) fn assert_stopped(&self, site: SiteId, violation: &Violation) {
        let found = self.stops.get(&site).map(|stop| &stop.violation);
        assert_eq!(found, Some(violation), "site {site}");
        let ending = Ending::Violated(violation.clone());
        assert_eq!(self.sites[&site].ending(), Some(&ending), "site {site}");
        self.assert_nothing_released_by(site);
    }

    pub(super) fn assert_nothing_released_by(&self, site: SiteId) {
        let answered = (self.said.iter())
            .any(|(from, message)| *from == site && matches!(message, ToCoordinator::Unmask(_)));
        assert!(!answered, "site {site} has opened shares");
    }

    /// Sites both of whose secrets can be put together from what sites released, with what these
    /// colluding sites add.
    pub(super) fn bare_sites(&self, colluding: &[SiteId]) -> Vec<SiteId> {
        let enough = |shares: &BTreeSet<SiteId>| {
            let all: BTreeSet<_> = shares.iter().chain(colluding).collect();
            all.len() >= self.terms.threshold()
        };
        (self.seen.iter())
            .filter(|(_, seen)| enough(&seen.self_mask) && enough(&seen.escrow))
            .map(|(dealer, _)| *dealer)
            .collect()
    }
}

/// A list of survivors as a coordinator that cheats would sign it.
pub(super) fn forge(message: &[u8], terms: &Terms, change: impl FnOnce(&mut Survivors)) -> Vec<u8> {
    let mut list = Survivors::from_bytes(&message[64..]).expect("a list");
    change(&mut list);
    list.sign(terms.context(), &coordinator_key())
}
