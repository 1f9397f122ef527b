//! What this site reports of a round besides its update: how the version that the round starts
//! from does on its own patients. Each figure is charged, noised and stored; it leaves in the
//! masked sum alone.

use std::{sync::Arc, time::SystemTime};

use consilium_models::{
    network::{Network, NetworkError, Target},
    training::Examples,
};
use consilium_privacy::{
    OutOfRange,
    accountant::{Charge, Epsilon},
    ledger::{Budget, ChargeRequest, Grant, Purpose, Repeat},
    release::{self, LossCap, NoisySum, ReleaseError},
    step::{Part, Values},
};
use consilium_proto::{
    ParameterVector,
    plan::{Figure, NoiseTarget},
};
use tracing::{info, warn};

use super::{Agent, AgentError, SessionError, assignment::Assignment, charging::cap_of, explained};
use crate::{data::TrainingSet, policy::Policy, store::ChargeError, training::blocking};

/// Why a round goes on without its report.
#[derive(Debug, thiserror::Error)]
enum NoReport {
    #[error(transparent)]
    Predict(#[from] NetworkError),
    #[error(transparent)]
    Value(#[from] OutOfRange),
    #[error(transparent)]
    NotPaid(#[from] consilium_privacy::ledger::Refusal),
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

/// How one patient's record was predicted.
struct Judged {
    is_right: bool,
    /// NaN for a record that cannot be read: it counts as the worst.
    loss: f64,
    /// Length of the gradient; NaN if it is not finite.
    norm: f64,
}

impl Judged {
    /// What a record that cannot be used counts as.
    const UNREADABLE: Self = Self {
        is_right: false,
        loss: f64::NAN,
        norm: 0.0,
    };
}

impl Agent {
    /// Makes and stores what the plan asks a round to report. What cannot be paid for or computed is
    /// left out: the round goes on without it.
    pub(super) async fn report(
        &self,
        assignment: &Assignment,
        network: &Arc<Network>,
        weights: &ParameterVector,
        set: &Arc<TrainingSet>,
        now: SystemTime,
    ) -> Result<(), SessionError> {
        let round = assignment.spec.round;
        if assignment.study.plan.figures(round.round).is_empty() {
            return Ok(());
        }
        let judging = {
            let (network, weights, set) = (network.clone(), weights.clone(), set.clone());
            blocking(move || judge(&network, &weights, &*set))
        };
        let made = match judging.await {
            Ok(judged) => self.noised_figures(assignment, &judged, now).await?,
            Err(error) => Err(error.into()),
        };
        match made {
            Ok(sums) => {
                let store = self.store.clone();
                blocking(move || store.keep_figures(round.study, round.round, &sums)).await?;
                info!(%round, "report noised and charged");
            }
            Err(error) => warn!(%round, error = explained(&error), "nothing is reported"),
        }
        Ok(())
    }

    /// What this round reports: zeros where nothing could be made.
    pub(super) async fn figures(&self, assignment: &Assignment) -> Result<Vec<f64>, SessionError> {
        let round = assignment.spec.round;
        let needed = 2 * assignment.study.plan.figures(round.round).len();
        if needed == 0 {
            return Ok(Vec::new());
        }
        let store = self.store.clone();
        let kept = blocking(move || store.kept_figures(round.study, round.round)).await?;
        let kept = kept.filter(|kept| kept.len() == needed);
        Ok(kept.unwrap_or_else(|| vec![0.0; needed]))
    }

    /// Sum and count of each figure, each charged before it is noised.
    async fn noised_figures(
        &self,
        assignment: &Assignment,
        judged: &[Judged],
        now: SystemTime,
    ) -> Result<Result<Vec<f64>, NoReport>, SessionError> {
        let (round, plan) = (assignment.spec.round, &assignment.study.plan);
        let policy = self.policy().map_err(AgentError::from)?;
        let (charge, cap) = match price(assignment, &policy) {
            Ok(Some(price)) => price,
            Ok(None) => return Ok(Ok(Vec::new())),
            Err(error) => return Ok(Err(error.into())),
        };
        let mut sums = Vec::new();
        for figure in plan.figures(round.round) {
            let request = ChargeRequest {
                data_set: plan.data_set.clone(),
                study: *round.study.as_bytes(),
                round: round.round,
                attempt: round.attempt,
                purpose: Purpose::Release(figure.name().to_owned()),
                charge,
                study_cap: Some(cap),
                repeat: Repeat::Refuse,
                key: None,
            };
            let charging = self
                .store
                .charge(&policy.data_sets, request, cap.delta, now);
            let grant = match charging.await {
                Ok(charged) => charged.grant,
                Err(ChargeError::Refused(refusal)) => return Ok(Err(refusal.into())),
                Err(error) => return Err(AgentError::from(error).into()),
            };
            match noised(figure, grant, judged) {
                Ok(sum) => sums.extend(within(figure, [sum.sum(), sum.count()])),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(sums))
    }
}

/// What a figure costs, and what the study may spend.
fn price(assignment: &Assignment, policy: &Policy) -> Result<Option<(Charge, Budget)>, OutOfRange> {
    let plan = &assignment.study.plan;
    let Some((report, guarantee)) = plan.report.zip(plan.privacy.guarantee()) else {
        return Ok(None);
    };
    let charge = Charge::Pure {
        epsilon: Epsilon::try_from(report.epsilon)?,
        releases: 1,
    };
    let mut cap = cap_of(&guarantee, policy)?;
    if let NoiseTarget::Multiplier(_) = guarantee.target {
        // The plan's noise says nothing about ε: the policy does, reports included.
        cap.epsilon = policy.study_epsilon;
    }
    Ok(Some((charge, cap)))
}

fn noised(figure: Figure, grant: Grant, judged: &[Judged]) -> Result<NoisySum, NoReport> {
    Ok(match figure {
        Figure::Accuracy => {
            release::noisy_accuracy(grant, judged.iter().map(|judged| judged.is_right))?
        }
        Figure::Clipped { norm } => {
            let is_clipped = |judged: &Judged| judged.norm.is_nan() || judged.norm > norm;
            release::noisy_accuracy(grant, judged.iter().map(is_clipped))?
        }
        Figure::Loss { cap } => {
            let losses = judged.iter().map(|judged| judged.loss);
            release::noisy_loss(grant, LossCap::try_from(cap)?, losses)?
        }
    })
}

/// Clamped to what a sum can hold: post-processing of what is noised already.
fn within(figure: Figure, sums: [f64; 2]) -> impl Iterator<Item = f64> {
    let pairs = sums.into_iter().zip(figure.largest());
    pairs.map(|(sum, most)| sum.clamp(-most, most))
}

/// Predicts the first record of each patient who has not opted out.
fn judge(
    network: &Network,
    weights: &ParameterVector,
    set: &dyn Examples,
) -> Result<Vec<Judged>, NetworkError> {
    let weights = network.weights(weights.as_slice())?;
    let patients = 0..set.patients();
    let patients: Vec<usize> = patients
        .filter(|&patient| set.records_of(patient) > 0)
        .collect();
    let mut judged = Vec::with_capacity(patients.len());
    for patients in patients.chunks(network.microbatch()) {
        let (mut batch, mut inputs, mut targets) = (network.batch(), Vec::new(), Vec::new());
        for &patient in patients {
            match set.load(patient, 0) {
                Ok((input, target)) if batch.push(&input, target.clone()).is_ok() => {
                    inputs.extend(input);
                    targets.push(target);
                }
                _ => judged.push(Judged::UNREADABLE),
            }
        }
        if batch.is_empty() {
            continue;
        }
        let predictions = network.predict(&weights, &inputs)?;
        let gradients = network.per_example(&weights, &batch)?;
        let norms = (0..gradients.examples()).map(|at| norm(&gradients.parts(at)));
        let rows = predictions.chunks_exact(network.outputs());
        for ((row, target), norm) in rows.zip(targets).zip(norms) {
            judged.push(judge_one(row, network.choices(), &target, norm));
        }
    }
    Ok(judged)
}

/// Parts cover different coordinates; the norm of an outer product is that of its factors, multiplied.
fn norm(parts: &[Part]) -> f64 {
    let square =
        |values: &[f32]| -> f64 { values.iter().map(|value| f64::from(*value).powi(2)).sum() };
    let squares = parts.iter().map(|part| match part.values {
        Values::Each(values) => square(values),
        Values::Outer { left, right } => square(left) * square(right),
    });
    squares.sum::<f64>().sqrt()
}

/// A window of words is right if all of its words are; its loss is the mean of theirs.
fn judge_one(row: &[f32], choices: usize, target: &Target, norm: f64) -> Judged {
    match target {
        Target::Class(class) => {
            let (is_right, loss) = judge_choice(row, *class);
            Judged {
                is_right,
                loss,
                norm,
            }
        }
        Target::Tags(tags) => {
            let words = row.chunks_exact(choices.max(1)).zip(tags.iter());
            let judged = words.map(|(row, &tag)| judge_choice(row, tag.into()));
            let (is_right, loss) = judged.fold((true, 0.0), |(all, sum), (is_right, loss)| {
                (all && is_right, sum + loss)
            });
            Judged {
                is_right,
                loss: loss / tags.len() as f64,
                norm,
            }
        }
        &Target::Value(value) => {
            let estimate = row.first().copied().unwrap_or(f32::NAN);
            Judged {
                is_right: false,
                loss: (f64::from(estimate) - f64::from(value)).powi(2),
                norm,
            }
        }
    }
}

/// Whether a class alone is the likeliest, and minus the logarithm of its probability.
fn judge_choice(row: &[f32], class: usize) -> (bool, f64) {
    let right = row.get(class).copied().unwrap_or(f32::NAN);
    let mut others = row.iter().enumerate().filter(|(at, _)| *at != class);
    let is_right = !right.is_nan() && others.all(|(_, other)| *other < right);
    (is_right, -f64::from(right).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_right_if_all_of_its_words_are() {
        let judge = |tags: &[u16]| {
            let row = [0.9, 0.1, 0.2, 0.8, 0.0, 0.0];
            judge_one(&row, 2, &Target::Tags(tags.into()), 1.0)
        };
        assert!(judge(&[0, 1]).is_right);
        assert!(!judge(&[0, 0]).is_right);
        let expected = -(0.9_f64.ln() + 0.8_f64.ln()) / 2.0;
        assert!((judge(&[0, 1]).loss - expected).abs() < 1e-6);
    }

    #[test]
    fn a_prediction_is_right_if_its_class_alone_is_the_likeliest() {
        let judge = |row: &[f32], class| judge_one(row, 2, &Target::Class(class), 1.0);
        assert!(judge(&[0.2, 0.8], 1).is_right);
        assert!(!judge(&[0.2, 0.8], 0).is_right);
        assert!(!judge(&[0.5, 0.5], 1).is_right, "a tie is no prediction");
        assert!(!judge(&[f32::NAN, f32::NAN], 1).is_right);
        assert!((judge(&[0.25, 0.75], 0).loss - 4_f64.ln()).abs() < 1e-6);
        assert!(judge(&[0.5], 3).loss.is_nan());
        assert_eq!(judge_one(&[3.0], 1, &Target::Value(1.0), 1.0).loss, 4.0);
    }

    #[test]
    fn the_length_of_a_gradient_is_that_of_all_its_parts() {
        let each = Part {
            start: 0,
            values: Values::Each(&[2.0, 1.0]),
        };
        let outer = Part {
            start: 2,
            values: Values::Outer {
                left: &[1.0, 1.0],
                right: &[2.0],
            },
        };
        // 4 + 1 + 2 · 4
        assert!((norm(&[each, outer]) - 13_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn figures_stay_within_what_a_sum_can_hold() {
        let loss = Figure::Loss { cap: 4.0 };
        let kept: Vec<_> = within(loss, [1e9, -1e9]).collect();
        assert_eq!(kept, [4e7, -1e7]);
    }
}
