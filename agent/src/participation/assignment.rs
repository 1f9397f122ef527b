//! Whether a round specification is to be believed, and whether this site takes part.
//!
//! Two kinds of no: *distrust* of what the coordinator shows, which ends the connection and is
//! loud; and *declining*, which is this site's own business and is said politely.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use consilium_proto::{
    Digest, LayoutDigest, ModelDigest, OutOfRange, RoundId, RoundSpec, Signed, SiteId,
    round_spec::RoundMessageError, secure_aggregation::NoTerms, wire::DeclineReason,
};

use crate::{policy::Policy, store::KnownStudy};

/// Largest difference between this machine's clock and the coordinator's.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Something the coordinator showed that is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Distrust {
    #[error("the roster names no coordinator that could sign rounds")]
    NoCoordinator,
    #[error("round specification not believed")]
    Spec(#[from] RoundMessageError),
    #[error("the coordinator sent something malformed")]
    Malformed(#[from] OutOfRange),
    #[error("round {round} was offered to this site, which its cohort does not name")]
    NotInCohort { round: RoundId },
    #[error(
        "ALARM: round {round} names roster epoch {epoch} with another digest than this site \
         believes; stop, and compare rosters with other members"
    )]
    OtherRoster { round: RoundId, epoch: u64 },
    #[error(
        "round {round} names layout {found}, the plan's network has {expected}: it is not trained \
         here; the study must be submitted anew"
    )]
    OtherLayout {
        round: RoundId,
        expected: LayoutDigest,
        found: LayoutDigest,
    },
    #[error(
        "round {round} starts from model {found}, but version {number} of the study is \
         {expected}: it is not trained here; ask researcher and coordinator"
    )]
    OtherModel {
        round: RoundId,
        number: u32,
        expected: ModelDigest,
        found: ModelDigest,
    },
    #[error("model bytes of {expected} digest to {found}")]
    ModelBytes {
        expected: ModelDigest,
        found: ModelDigest,
    },
    #[error("round {round} is not as its plan says: it is not trained here")]
    NotOfPlan { round: RoundId, source: NoTerms },
    #[error("the coordinator shows no version {number} of study of round {round}")]
    NoVersion { round: RoundId, number: u32 },
}

/// Why this site does not take part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Declined {
    pub(super) reason: DeclineReason,
    /// For this site's own log.
    pub(super) why: String,
}

impl Declined {
    pub(super) fn new(reason: DeclineReason, why: impl ToString) -> Self {
        Self {
            reason,
            why: why.to_string(),
        }
    }
}

/// A round that this site takes part in.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) spec: RoundSpec,
    /// The specification as the coordinator signed it.
    pub(super) signed: Signed,
    /// What every message of the round is bound to.
    pub(super) context: Digest,
    pub(super) study: KnownStudy,
    /// When the coordinator stops waiting, by this machine's clock.
    pub(super) deadline: tokio::time::Instant,
    /// The coordinator's clock less this machine's, in milliseconds.
    pub(super) ahead: i64,
}

impl Assignment {
    /// A moment of the coordinator's clock, milliseconds since 1970, by this machine's.
    pub(super) fn here(&self, moment: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(moment.saturating_add_signed(-self.ahead))
    }
}

/// Compares a believed specification with what this site has agreed to.
///
/// # Errors
/// Why it declines.
pub(super) fn agree(
    spec: &RoundSpec,
    study: Option<&KnownStudy>,
    policy: &Policy,
    public_size: Option<u64>,
    now: SystemTime,
    coordinator_now: u64,
) -> Result<(), Declined> {
    use DeclineReason as Reason;

    let approved = study.filter(|study| study.is_approved(spec.plan_digest));
    let Some(study) = approved else {
        return Err(Declined::new(
            Reason::NotApproved,
            "this plan was not approved here",
        ));
    };
    let policy_says = |why: String| Declined::new(Reason::Policy, why);
    policy
        .check(&study.plan, public_size)
        .map_err(|refusal| policy_says(refusal.to_string()))?;
    if (spec.cohort.len() as u64) < u64::from(policy.min_cohort) {
        let (least, found) = (policy.min_cohort, spec.cohort.len());
        return Err(policy_says(format!(
            "`min_cohort` is {least}, the round has {found} sites"
        )));
    }
    if let Some(hours) = policy.hours.filter(|hours| !hours.contains(now)) {
        return Err(policy_says(format!("`hours` allow training from {hours}")));
    }
    if public_size.is_none() {
        let why = format!("no data set {:?} is registered here", study.plan.data_set);
        return Err(Declined::new(Reason::DataSetMissing, why));
    }
    check_clocks(now, coordinator_now)
}

/// Rounds are charged and expire by the clock: one that is off by far would mislead both sides.
fn check_clocks(now: SystemTime, coordinator_now: u64) -> Result<(), Declined> {
    let ours = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let theirs = Duration::from_millis(coordinator_now);
    if ours.abs_diff(theirs) <= CLOCK_TOLERANCE {
        return Ok(());
    }
    let why = format!(
        "clocks differ: this machine says {} s since 1970, the coordinator {} s ({} s apart); \
         set the clock that is wrong",
        ours.as_secs(),
        theirs.as_secs(),
        ours.abs_diff(theirs).as_secs(),
    );
    Err(Declined::new(DeclineReason::Failed, why))
}

/// Whether the cohort names this site.
pub(super) fn names(spec: &RoundSpec, site: Option<SiteId>) -> bool {
    site.is_some_and(|site| spec.cohort.binary_search(&site).is_ok())
}

#[cfg(test)]
mod tests {
    use consilium_proto::{MemberId, Plan, PlanDigest, StudyId};

    use super::*;
    use crate::store::Decided;

    const PLAN: &str = r#"
        name = "heart"
        task = "tabular-classification"
        data_set = "heart"
        classes = ["healthy", "ill"]
        rounds = 2
        secure_aggregation = false
        cohort = { size = 3 }
        table = { columns = [{ name = "age" }] }
        network = { name = "dense", hidden = [] }
        training = { steps = 1, batch_size = 8, learning_rate = 0.1 }
        privacy = { clipping_norm = 1.0, epsilon = 1.0, delta = 1e-6 }
    "#;

    const NOW: SystemTime = UNIX_EPOCH;

    fn policy(more: &str) -> Policy {
        let text = format!(
            "tasks = [\"tabular-classification\"]\nmin_cohort = 3\n\
             allow_without_secure_aggregation = true\n{more}\n\
             [data_sets.heart]\nepsilon = 4.0\ndelta = 1e-5\n"
        );
        toml::from_str(&text).expect("a sound policy")
    }

    fn study(approved: bool) -> KnownStudy {
        let plan = Plan::from_toml(PLAN).expect("a sound plan");
        KnownStudy {
            id: StudyId::random().expect("randomness"),
            plan_digest: plan.digest(),
            plan,
            decision: Some(Decided {
                approved,
                reason: String::new(),
                sent: true,
            }),
        }
    }

    fn spec(study: &KnownStudy) -> RoundSpec {
        let digest = Digest::plain(b"x");
        RoundSpec {
            round: RoundId {
                study: study.id,
                round: 1,
                attempt: 1,
            },
            roster_epoch: 0,
            roster_digest: digest,
            plan_digest: study.plan_digest,
            layout_digest: LayoutDigest(digest),
            model_digest: ModelDigest(digest),
            cohort: [1, 2, 5].map(|id| SiteId(MemberId(id))).to_vec(),
            quorum: 3,
            issued_at: 0,
            deadline: 60_000,
            chunk_bytes: 1 << 20,
            secure_aggregation: None,
        }
    }

    fn reason(result: Result<(), Declined>) -> DeclineReason {
        result.expect_err("declined").reason
    }

    #[test]
    fn an_approved_round_within_the_policy_is_agreed_to() {
        let study = study(true);
        let agreed = agree(&spec(&study), Some(&study), &policy(""), Some(240), NOW, 0);
        assert_eq!(agreed, Ok(()));
        assert!(names(&spec(&study), Some(SiteId(MemberId(5)))));
        assert!(!names(&spec(&study), Some(SiteId(MemberId(3)))));
        assert!(!names(&spec(&study), None));
    }

    #[test]
    fn only_the_very_plan_that_was_approved_is_trained() {
        let (yes, no) = (study(true), study(false));
        let declined = |spec: &RoundSpec, study: Option<&KnownStudy>| {
            reason(agree(spec, study, &policy(""), Some(240), NOW, 0))
        };
        assert_eq!(declined(&spec(&no), Some(&no)), DeclineReason::NotApproved);
        assert_eq!(declined(&spec(&yes), None), DeclineReason::NotApproved);
        let other = RoundSpec {
            plan_digest: PlanDigest(Digest::plain(b"y")),
            ..spec(&yes)
        };
        assert_eq!(declined(&other, Some(&yes)), DeclineReason::NotApproved);
    }

    #[test]
    fn a_small_cohort_the_wrong_hour_and_a_missing_data_set_are_declined() {
        let study = study(true);
        let mut small = spec(&study);
        small.cohort.pop();
        let declined = |spec: &RoundSpec, policy: &Policy, size| {
            reason(agree(spec, Some(&study), policy, size, NOW, 0))
        };
        assert_eq!(
            declined(&small, &policy(""), Some(240)),
            DeclineReason::Policy
        );
        let night = policy("hours = { from = \"18:00\", to = \"23:00\" }");
        assert_eq!(
            declined(&spec(&study), &night, Some(240)),
            DeclineReason::Policy
        );
        assert_eq!(
            declined(&spec(&study), &policy(""), None),
            DeclineReason::DataSetMissing
        );
    }

    #[test]
    fn a_clock_off_by_a_day_is_declined_and_both_clocks_are_named() {
        let study = study(true);
        let day = 86_400_000;
        let agreed = |theirs| {
            agree(
                &spec(&study),
                Some(&study),
                &policy(""),
                Some(240),
                NOW,
                theirs,
            )
        };
        assert_eq!(agreed(300_000), Ok(()));
        let declined = agreed(day).expect_err("a day off");
        assert_eq!(declined.reason, DeclineReason::Failed);
        assert!(
            declined.why.contains("says 0 s") && declined.why.contains("86400 s"),
            "{declined:?}"
        );
    }
}
