//! What each data set has spent, over all studies, for good.
//!
//! Pay first: [`Ledger::reserve`] puts the charge on disk before it hands out the [`Grant`] without
//! which there is no noise and no update. A crash after that wastes budget and never under-counts;
//! nothing is ever refunded. Entries are chained by hash, so a gap, a change or another order is
//! found when the ledger is opened, and signed, so that an auditor knows whose they are.
//!
//! **Guarantee.** All releases of a data set together are (ε, δ)-differentially private under
//! add-or-remove-one adjacency, with its [`Budget`], even when each charge is chosen after seeing
//! all earlier releases (the filter below; the test `no_order_of_charges_crosses_the_budget`).
//! Studies on disjoint patients do not add up; a patient in two data sets pays both.

mod chain;
mod entry;
mod fact;
mod filter;
mod grant;
mod journal;
mod key;
mod refusal;
mod request;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

pub use chain::{ChainError, Head, verify, verify_signed};
pub(crate) use entry::as_hex;
pub use entry::{Entry, UnknownForm};
pub use fact::{Charged, Fact, Generator, Made};
pub(crate) use fact::{read_charge, write_charge};
pub(crate) use filter::Filter;
#[cfg(test)]
pub(crate) use grant::test_grant;
pub use grant::{Grant, GrantError, Training};
pub use journal::{Journal, JournalError, MemoryJournal};
pub use key::{LedgerKey, LedgerPublicKey};
pub use refusal::{LedgerError, RecordError, Refusal};
pub use request::{Budget, ChargeRequest, NO_STUDY, Purpose, Repeat};

use crate::accountant::{Accountant as _, Charge, ClippingNorm, Delta, Rdp};

/// The record of all charges of a site, and the judge of new ones. One process holds it at a time.
#[derive(Debug)]
pub struct Ledger<J> {
    journal: J,
    key: Arc<LedgerKey>,
    entries: Vec<Entry>,
    budgets: HashMap<String, Budget>,
    filter: Filter,
    accountant: Rdp,
    /// The journal failed, so what is on disk is not known until it has been read again.
    stale: bool,
}

impl<J: Journal> Ledger<J> {
    /// Reads and verifies all entries, and sets what each data set may spend over all studies.
    ///
    /// The newest entry's signature covers all the others through the chain; an auditor looks at
    /// each ([`verify_signed`]).
    ///
    /// # Errors
    /// The journal failed, its chain does not verify, or another key signed it.
    pub fn open(
        journal: J,
        key: Arc<LedgerKey>,
        budgets: impl IntoIterator<Item = (String, Budget)>,
    ) -> Result<Self, LedgerError> {
        let mut ledger = Self {
            journal,
            key,
            entries: Vec::new(),
            budgets: budgets.into_iter().collect(),
            filter: Filter::new(),
            accountant: Rdp::new(),
            stale: true,
        };
        ledger.reload()?;
        Ok(ledger)
    }

    /// Sets what a data set may spend over all studies. What it has spent stays spent.
    ///
    /// The guarantee is proved for a budget fixed before the first charge. Raising it after looking
    /// at results is a new promise, made by whoever raises it.
    pub fn set_budget(&mut self, data_set: &str, budget: Budget) {
        self.budgets.insert(data_set.to_owned(), budget);
    }

    /// What a data set may spend over all studies.
    pub fn budget(&self, data_set: &str) -> Option<Budget> {
        self.budgets.get(data_set).copied()
    }

    /// Charges, on disk, and grants what was charged for; or refuses and changes nothing.
    ///
    /// # Errors
    /// [`Refusal`] says what is missing, and how much would still be granted.
    pub fn reserve(&mut self, request: ChargeRequest, now: SystemTime) -> Result<Grant, Refusal> {
        if self.stale {
            self.reload()?;
        }
        let budget = self.judge(&request)?;
        self.check_data_set(&request, budget)?;
        self.check_study(&request)?;

        self.note_budget(&request.data_set, budget, now)?;
        let charged = Charged::asked(&request);
        let entry = self.append(Fact::Charged(charged.clone()), now)?;
        Ok(Grant::of(entry, &charged))
    }

    /// Grants once more what a training charge paid for, if no update of it was recorded.
    ///
    /// A process that dies between charge and update has paid and released nothing. The grant
    /// serves only the secret that the charge committed to, so batches and noise come again as
    /// they were, and what is released is the one update that was paid for. **The caller vouches
    /// that nothing of the first run has left the site.**
    pub fn resume(&self, sequence: u64) -> Option<Grant> {
        let (entry, charged) = self.charges().find(|(entry, charged)| {
            entry.sequence == sequence && charged.purpose == Purpose::Training
        })?;
        let mut made = self.entries.iter().filter_map(|entry| entry.fact.made());
        let is_unmade = made.all(|made| made.charge != sequence);
        is_unmade.then(|| Grant::of(entry, charged))
    }

    /// Writes down which update a charge paid for, before the update may leave. Safe to repeat.
    ///
    /// # Errors
    /// No such charge, or another update was made with it.
    pub fn record(&mut self, made: Made, now: SystemTime) -> Result<(), RecordError> {
        if self.stale {
            self.reload()?;
        }
        let recorded = self.entries.iter().filter_map(|entry| entry.fact.made());
        if let Some(earlier) = recorded
            .into_iter()
            .find(|other| other.charge == made.charge)
        {
            return match *earlier == made {
                true => Ok(()),
                false => Err(RecordError::OtherUpdate {
                    charge: made.charge,
                }),
            };
        }
        let paid = self.charges().any(|(entry, charged)| {
            entry.sequence == made.charge
                && charged.purpose == Purpose::Training
                && charged.charge.releases() >= made.taken
        });
        if !paid {
            return Err(RecordError::NotPaid {
                charge: made.charge,
            });
        }
        self.append(Fact::Made(made), now)?;
        Ok(())
    }

    /// C where a study's newest update ended, and its next one starts; none before the first.
    pub fn clipping_norm(&self, study: [u8; 16]) -> Option<ClippingNorm> {
        let mut made = self
            .entries
            .iter()
            .rev()
            .filter_map(|entry| entry.fact.made());
        let newest = made.find(|made| {
            // Positions count from 1 without gaps.
            let at = usize::try_from(made.charge)
                .ok()
                .and_then(|at| at.checked_sub(1));
            let charge = at.and_then(|at| self.entries.get(at)?.fact.charged());
            charge.is_some_and(|charged| charged.study == study)
        });
        newest.map(|made| made.next_clipping_norm)
    }

    /// ε at `delta` of everything a data set has released: what the accountant says of its
    /// history. The budget, not this figure, is the guarantee for charges chosen on the way.
    pub fn spent(&mut self, data_set: &str, delta: Delta) -> f64 {
        let history = self.history(|charged| charged.data_set == data_set);
        self.accountant.epsilon(&history, delta)
    }

    /// ε at `delta` of everything one study has released at this site.
    pub fn study_epsilon(&mut self, study: [u8; 16], delta: Delta) -> f64 {
        let history = self.history(|charged| charged.study == study);
        self.accountant.epsilon(&history, delta)
    }

    /// How many releases like this one the data set could still pay for; `None` without a budget.
    pub fn releases_left(&mut self, data_set: &str, charge: &Charge) -> Option<u32> {
        let budget = self.budget(data_set)?;
        Some(self.filter.releases_left(data_set, budget, charge))
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Position and hash of the newest entry. Kept elsewhere, it shows later that no older copy
    /// of the ledger was put back: see [`contains`](Self::contains).
    pub fn head(&self) -> Head {
        self.entries.last().map_or(Head::START, Entry::head)
    }

    /// Whether an earlier head is part of this ledger. If not, entries were lost or rewritten.
    pub fn contains(&self, head: &Head) -> bool {
        *head == Head::START || self.entries.iter().any(|entry| entry.head() == *head)
    }

    fn judge(&self, request: &ChargeRequest) -> Result<Budget, Refusal> {
        let Some(budget) = self.budget(&request.data_set) else {
            return Err(Refusal::UnknownDataSet {
                data_set: request.data_set.clone(),
            });
        };
        if request.charge.releases() == 0 {
            return Err(Refusal::Nothing);
        }
        let earlier = self.charges().find(|(_, charged)| {
            charged.data_set == request.data_set
                && (charged.study, charged.round) == (request.study, request.round)
                && charged.purpose == request.purpose
        });
        if let (Some((&Entry { sequence, .. }, _)), Repeat::Refuse) = (earlier, request.repeat) {
            return Err(Refusal::AlreadyCharged { sequence });
        }
        let used =
            |(_, charged): &(&Entry, &Charged)| charged.key.is_some() && charged.key == request.key;
        match self.charges().find(used) {
            Some((&Entry { sequence, .. }, _)) => Err(Refusal::SecretUsed { sequence }),
            None => Ok(budget),
        }
    }

    /// Writes the budget down where the newest one on record is another.
    fn note_budget(
        &mut self,
        data_set: &str,
        budget: Budget,
        now: SystemTime,
    ) -> Result<(), LedgerError> {
        let noted = self
            .entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.fact {
                Fact::Budget {
                    data_set: name,
                    budget,
                } if name == data_set => Some(*budget),
                _ => None,
            });
        if noted != Some(budget) {
            let data_set = data_set.to_owned();
            self.append(Fact::Budget { data_set, budget }, now)?;
        }
        Ok(())
    }

    fn append(&mut self, fact: Fact, now: SystemTime) -> Result<&Entry, LedgerError> {
        let at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let entry = Entry::after(self.head(), fact, at, &self.key);
        if let Err(error) = self.journal.append(&entry) {
            self.stale = true;
            return Err(error.into());
        }
        self.take(entry);
        Ok(self.entries.last().expect("one was just taken"))
    }

    fn check_data_set(&mut self, request: &ChargeRequest, budget: Budget) -> Result<(), Refusal> {
        let asked = request.charge.releases();
        let releases_left = self
            .filter
            .releases_left(&request.data_set, budget, &request.charge);
        if asked <= releases_left {
            return Ok(());
        }
        Err(Refusal::DataSetExhausted {
            data_set: request.data_set.clone(),
            budget,
            spent: self.spent(&request.data_set, budget.delta),
            asked,
            releases_left,
        })
    }

    fn check_study(&mut self, request: &ChargeRequest) -> Result<(), Refusal> {
        let Some(cap) = request.study_cap else {
            return Ok(());
        };
        let asked = request.charge.releases();
        let mut history = self.history(|charged| charged.study == request.study);
        history.push(request.charge);
        let last = history.len() - 1;
        let mut fits = |count: u32| {
            history[last] = request.charge.with_releases(count);
            self.accountant.epsilon(&history, cap.delta) <= cap.epsilon.value()
        };
        if fits(asked) {
            return Ok(());
        }
        // More releases never cost less, so the largest count that fits is found by halving.
        let (mut fit, mut too_many) = (0, asked);
        while too_many - fit > 1 {
            let middle = fit + (too_many - fit) / 2;
            if fits(middle) {
                fit = middle
            } else {
                too_many = middle
            }
        }
        let spent = self.study_epsilon(request.study, cap.delta);
        Err(Refusal::StudyExhausted {
            cap,
            spent,
            asked,
            releases_left: fit,
        })
    }

    fn charges(&self) -> impl Iterator<Item = (&Entry, &Charged)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((entry, entry.fact.charged()?)))
    }

    fn history(&self, of: impl Fn(&Charged) -> bool) -> Vec<Charge> {
        let charges = self.charges().filter(|(_, charged)| of(charged));
        charges.map(|(_, charged)| charged.charge).collect()
    }

    fn reload(&mut self) -> Result<(), LedgerError> {
        let entries = self.journal.load()?;
        verify(&entries)?;
        if let Some(newest) = entries.last()
            && !newest.is_signed_by(&self.key.public_key())
        {
            return Err(ChainError::Unsigned {
                sequence: newest.sequence,
            }
            .into());
        }
        // A journal that lost what it had confirmed must not make us forget it.
        let known = self.head();
        if known != Head::START && !entries.iter().any(|entry| entry.head() == known) {
            return Err(ChainError::Lost {
                sequence: known.sequence,
            }
            .into());
        }
        self.entries.clear();
        self.filter.clear();
        entries.into_iter().for_each(|entry| self.take(entry));
        self.stale = false;
        Ok(())
    }

    fn take(&mut self, entry: Entry) {
        if let Some(charged) = entry.fact.charged() {
            self.filter.add(&charged.data_set, &charged.charge);
        }
        self.entries.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(epsilon: f64) -> Budget {
        let sound = "within range";
        Budget {
            epsilon: epsilon.try_into().expect(sound),
            delta: 1e-5.try_into().expect(sound),
        }
    }

    fn training(steps: u32) -> Charge {
        let sound = "within range";
        Charge::SampledGaussian {
            q: 0.05.try_into().expect(sound),
            sigma: 1.0.try_into().expect(sound),
            steps,
        }
    }

    fn request(round: u32, steps: u32) -> ChargeRequest {
        ChargeRequest {
            data_set: "scans".into(),
            study: [1; 16],
            round,
            attempt: 1,
            purpose: Purpose::Training,
            charge: training(steps),
            study_cap: None,
            repeat: Repeat::Refuse,
            key: None,
        }
    }

    fn key() -> Arc<LedgerKey> {
        Arc::new(LedgerKey::from_seed([1; 32]))
    }

    fn ledger(epsilon: f64) -> Ledger<MemoryJournal> {
        Ledger::open(
            MemoryJournal::default(),
            key(),
            [("scans".into(), budget(epsilon))],
        )
        .expect("an empty journal")
    }

    const NOW: SystemTime = UNIX_EPOCH;

    #[test]
    fn a_grant_says_what_was_charged_and_the_charge_is_on_disk() {
        let mut ledger = ledger(8.0);
        let grant = ledger.reserve(request(1, 20), NOW).expect("within budget");
        assert_eq!(
            (grant.sequence(), grant.round(), grant.charge()),
            (2, 1, training(20))
        );
        assert_eq!(ledger.journal.load().expect("memory"), ledger.entries());
        let delta = budget(8.0).delta;
        assert_eq!(
            ledger.spent("scans", delta),
            ledger.study_epsilon([1; 16], delta)
        );
        assert_eq!(ledger.spent("other", delta), 0.0);
    }

    #[test]
    fn what_is_left_is_granted_to_the_last_step_and_then_nothing() {
        let mut ledger = ledger(4.0);
        ledger.reserve(request(1, 30), NOW).expect("within budget");
        let refused = ledger
            .reserve(request(2, 1_000_000), NOW)
            .expect_err("too many");
        let Refusal::DataSetExhausted { releases_left, .. } = refused else {
            panic!("refused otherwise: {refused}");
        };
        assert!(releases_left > 0, "{refused}");
        assert!(ledger.reserve(request(2, releases_left + 1), NOW).is_err());
        ledger
            .reserve(request(2, releases_left), NOW)
            .expect("as was said");
        let refused = ledger
            .reserve(request(3, 1), NOW)
            .expect_err("nothing left");
        assert!(
            refused.to_string().contains("pays for 0 of the 1"),
            "{refused}"
        );
        assert!(ledger.spent("scans", budget(4.0).delta) <= 4.0);
        // The budget, then the two charges.
        assert_eq!(ledger.entries().len(), 3);
    }

    #[test]
    fn a_secret_pays_once() {
        let mut ledger = ledger(8.0);
        let with_key = |round| ChargeRequest {
            key: Some([9; 32].into()),
            ..request(round, 1)
        };
        ledger.reserve(with_key(1), NOW).expect("within budget");
        let refused = ledger.reserve(with_key(2), NOW).expect_err("used before");
        assert!(
            matches!(refused, Refusal::SecretUsed { sequence: 2 }),
            "{refused}"
        );
    }

    #[test]
    fn a_change_of_budget_stands_in_the_ledger_before_the_next_charge() {
        let mut ledger = ledger(8.0);
        ledger.reserve(request(1, 1), NOW).expect("within budget");
        ledger.set_budget("scans", budget(9.0));
        ledger.reserve(request(2, 1), NOW).expect("within budget");
        ledger.reserve(request(3, 1), NOW).expect("within budget");
        let noted = |entry: &&Entry| matches!(entry.fact, Fact::Budget { .. });
        let at: Vec<u64> = ledger
            .entries()
            .iter()
            .filter(noted)
            .map(|entry| entry.sequence)
            .collect();
        assert_eq!(at, [1, 3]);
    }

    #[test]
    fn a_charge_pays_for_one_update() {
        let mut ledger = ledger(8.0);
        ledger.reserve(request(1, 5), NOW).expect("within budget");
        let made = Made {
            charge: 2,
            generator: Generator::Aes256Gcm,
            taken: 5,
            clipping_norm: 1.0.try_into().expect("sound"),
            next_clipping_norm: 0.5.try_into().expect("sound"),
            batch_size: 8,
            start: [1; 32],
            update: [2; 32],
        };
        assert_eq!(ledger.resume(2).map(|grant| grant.sequence()), Some(2));
        assert_eq!(ledger.clipping_norm([1; 16]), None);
        ledger.record(made, NOW).expect("paid for");
        assert_eq!(ledger.clipping_norm([1; 16]), Some(made.next_clipping_norm));
        assert_eq!(ledger.clipping_norm([2; 16]), None);
        assert!(ledger.resume(2).is_none() && ledger.resume(1).is_none());
        ledger.record(made, NOW).expect("safe to repeat");
        assert_eq!(ledger.entries().len(), 3);
        let other = Made {
            update: [3; 32],
            ..made
        };
        assert!(matches!(
            ledger.record(other, NOW),
            Err(RecordError::OtherUpdate { charge: 2 })
        ));
        let unpaid = [
            Made { charge: 1, ..made },
            Made { charge: 3, ..made },
            Made { charge: 9, ..made },
        ];
        for made in unpaid {
            assert!(matches!(
                ledger.record(made, NOW),
                Err(RecordError::NotPaid { .. })
            ));
        }
    }

    #[test]
    fn a_study_cap_binds_before_the_data_set_does() {
        let mut ledger = ledger(50.0);
        let capped = |round, steps| ChargeRequest {
            study_cap: Some(budget(2.0)),
            ..request(round, steps)
        };
        let refused = ledger
            .reserve(capped(1, 4000), NOW)
            .expect_err("beyond the cap");
        let Refusal::StudyExhausted { releases_left, .. } = refused else {
            panic!("refused otherwise: {refused}");
        };
        assert!(releases_left > 0, "{refused}");
        ledger
            .reserve(capped(1, releases_left), NOW)
            .expect("as was said");
        assert!(ledger.reserve(capped(2, 1), NOW).is_err());
        let other = ChargeRequest {
            study: [2; 16],
            ..capped(1, releases_left)
        };
        ledger.reserve(other, NOW).expect("a study of its own");
    }

    #[test]
    fn a_round_is_charged_once_unless_asked_by_name() {
        let mut ledger = ledger(8.0);
        ledger.reserve(request(1, 5), NOW).expect("within budget");
        let again = ChargeRequest {
            attempt: 2,
            ..request(1, 5)
        };
        let refused = ledger
            .reserve(again.clone(), NOW)
            .expect_err("charged before");
        assert!(
            matches!(refused, Refusal::AlreadyCharged { sequence: 2 }),
            "{refused}"
        );
        let count = Charge::Pure {
            epsilon: 0.1.try_into().expect("sound"),
            releases: 1,
        };
        let tail = Purpose::Release("metrics".into());
        ledger
            .reserve(
                ChargeRequest {
                    purpose: tail,
                    charge: count,
                    ..again.clone()
                },
                NOW,
            )
            .expect("another purpose");
        let redrawn = ChargeRequest {
            repeat: Repeat::ChargeAgain,
            ..again
        };
        assert_eq!(
            ledger
                .reserve(redrawn, NOW)
                .expect("asked by name")
                .sequence(),
            4
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut ledger = ledger(8.0);
        assert!(matches!(
            ledger.reserve(request(1, 0), NOW),
            Err(Refusal::Nothing)
        ));
        let unknown = ChargeRequest {
            data_set: "notes".into(),
            ..request(1, 1)
        };
        assert!(matches!(
            ledger.reserve(unknown, NOW),
            Err(Refusal::UnknownDataSet { .. })
        ));
        assert_eq!(ledger.releases_left("notes", &training(1)), None);
    }

    #[test]
    fn an_older_copy_of_the_ledger_lacks_a_head_that_was_kept() {
        let mut ledger = ledger(8.0);
        ledger.reserve(request(1, 1), NOW).expect("within budget");
        let old = ledger.journal.clone();
        ledger.reserve(request(2, 1), NOW).expect("within budget");
        let head = ledger.head();
        assert!(ledger.contains(&head));
        assert!(
            !Ledger::open(old, key(), [])
                .expect("a sound chain")
                .contains(&head)
        );
    }
}
