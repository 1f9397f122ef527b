//! What the unit tests share: a plan, a layout, a federation on paper, a clock to move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use consilium_proto::{
    Digest, Layout, Member, MemberId, Plan, Role, Roster, RoundId, RoundSpec, Signed, Signer,
    SiteId, StudyId, TensorSpec, roster::Application,
};

use crate::{
    clock::{Clock, Timestamp},
    store::StudyRecord,
    study::{Rules, Study},
};

/// A moment in 2027.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// A plan for `sites` sites that all have to answer.
pub(crate) fn plan(sites: u32, rounds: u32) -> Plan {
    let text = format!(
        r#"
        name = "test"
        task = "tabular-classification"
        data_set = "rows"
        classes = ["no", "yes"]
        rounds = {rounds}
        secure_aggregation = false
        cohort = {{ size = {sites}, deadline = "1min", max_attempts = 2 }}
        table = {{ columns = [{{ name = "a" }}] }}
        network = {{ name = "dense", hidden = [] }}
        training = {{ steps = 1, batch_size = 8, learning_rate = 0.1 }}
        strategy = {{ name = "fed-avg" }}
        privacy = {{ mode = "none" }}
        "#
    );
    Plan::from_toml(&text).expect("a sound plan")
}

pub(crate) fn layout(parameters: usize) -> Layout {
    let tensor = |name: &str, shape| TensorSpec {
        name: name.into(),
        shape,
    };
    let tensors = vec![
        tensor("weight", vec![parameters - 1]),
        tensor("bias", vec![]),
    ];
    Layout::new(tensors).expect("a sound layout")
}

pub(crate) fn signer() -> Signer {
    Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a fresh key")
}

pub(crate) fn site(id: u16) -> SiteId {
    SiteId(MemberId(id))
}

pub(crate) fn sites(ids: impl IntoIterator<Item = u16>) -> Vec<SiteId> {
    ids.into_iter().map(site).collect()
}

pub(crate) fn study_id(byte: u8) -> StudyId {
    StudyId::try_from(&[byte; 16][..]).expect("16 bytes")
}

pub(crate) fn round_id(round: u32, attempt: u32) -> RoundId {
    RoundId {
        study: study_id(7),
        round,
        attempt,
    }
}

/// A specification for a cohort with a deadline of one minute.
pub(crate) fn spec(cohort: Vec<SiteId>, quorum: u32) -> RoundSpec {
    let plan = plan(cohort.len() as u32, 1);
    let layout = layout(5).digest();
    RoundSpec {
        round: round_id(1, 1),
        roster_epoch: 0,
        roster_digest: Digest::plain(b"roster"),
        plan_digest: plan.digest(),
        layout_digest: layout,
        model_digest: consilium_proto::ModelDigest(Digest::plain(b"model")),
        cohort,
        quorum,
        issued_at: NOW.0,
        deadline: (NOW + Duration::from_secs(60)).0,
        chunk_bytes: 1024,
        secure_aggregation: None,
    }
}

pub(crate) fn record(plan: Plan) -> StudyRecord {
    StudyRecord {
        canonical_plan: plan.to_canonical(),
        layout: layout(5),
        submitted_by: MemberId(9),
        submitted_at: NOW,
        chunk_bytes: 1024,
        study: Study::new(study_id(7), Rules::of(&plan, Duration::from_secs(2))),
        revision: 0,
        plan,
    }
}

/// Governance with the epochs it has signed, and the keys of the sites it has admitted.
pub(crate) struct Federation {
    pub(crate) governance: Signer,
    pub(crate) epochs: Vec<Signed>,
    pub(crate) keys: Vec<Arc<Signer>>,
}

impl Federation {
    /// Admits sites 1 to `count`.
    pub(crate) fn of_sites(count: u16) -> Self {
        let governance = signer();
        let epochs = vec![Roster::found(&governance, NOW.seconds())];
        let mut federation = Self {
            governance,
            epochs,
            keys: vec![],
        };
        (0..count).for_each(|_| federation.admit());
        federation
    }

    pub(crate) fn admit(&mut self) {
        let key = signer();
        let identity_key = key.public_key();
        let application = Application {
            name: format!("site {}", self.keys.len() + 1)
                .parse()
                .expect("a sound name"),
            role: Role::Site,
            identity_key,
            tls_key_digest: Digest::plain(identity_key.as_bytes()),
        };
        let now = NOW.seconds();
        let next = self
            .roster()
            .admit(application, &self.governance, now, now + 86_400 * 365);
        self.epochs.push(next.expect("a new member"));
        self.keys.push(Arc::new(key));
    }

    pub(crate) fn revoke(&mut self, id: u16) {
        let next = self
            .roster()
            .revoke(MemberId(id), &self.governance, NOW.seconds());
        self.epochs.push(next.expect("a known member"));
    }

    pub(crate) fn trust_root(&self) -> Digest {
        self.governance.public_key().fingerprint()
    }

    pub(crate) fn roster(&self) -> Roster {
        Roster::open_history(&self.epochs, &self.trust_root()).expect("our own epochs")
    }

    pub(crate) fn member(&self, id: u16) -> Member {
        self.roster()
            .member(MemberId(id))
            .expect("an admitted member")
            .clone()
    }
}

/// A clock that tests move.
#[derive(Clone)]
pub(crate) struct Hand(Arc<AtomicU64>);

impl Hand {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NOW.0)))
    }

    pub(crate) fn clock(&self) -> Clock {
        let hand = self.clone();
        Clock::new(move || Timestamp(hand.0.load(Ordering::SeqCst)).to_system_time())
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}
