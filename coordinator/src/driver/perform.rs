//! What each effect does. Every one looks at where the study is first: it may have been performed
//! before, or the study may have moved on.

use consilium_privacy::secagg::coordinator as secagg;
use consilium_proto::{
    ModelDigest, OutOfRange, RoundId, RoundSpec, SecureAggregation, SiteId, StudyId,
    secure_aggregation::Form, wire,
};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use tracing::warn;

use super::{DriveError, Driver, SecureError, is_at};
use crate::{
    aggregation::{Aggregation, AggregationError, MaskedSum, Summed, Updates},
    audit_log::Entry,
    blobs::BlobName,
    chronicle, publication,
    round::{self, Phase as RoundPhase, Round},
    store::{Change, EffectId, Release, Store, StudyRecord},
    study::{Effect, Input, Phase},
};

impl<S: Store> Driver<S> {
    /// Performs one effect and takes it off the list, in the transaction of what came of it.
    ///
    /// # Errors
    /// It could not be done now; it stays on the list.
    pub(super) async fn perform(
        &self,
        id: EffectId,
        study: StudyId,
        effect: Effect,
    ) -> Result<(), DriveError> {
        let record = self
            .store
            .study(study)
            .await?
            .ok_or(DriveError::Unknown(study))?;
        let change = Change {
            performed: Some(id),
            ..Change::default()
        };
        let (input, change) = match effect {
            Effect::Draw(round) => self.draw(&record, round, change).await?,
            Effect::Aggregate(round) => {
                match Box::pin(self.aggregate(&record, round, change)).await? {
                    Some(rest) => rest,
                    None => return Ok(()),
                }
            }
            Effect::Discard(round) => (self.discard(&record, round).await?, change),
            Effect::Release => self.release(&record, change).await?,
            // Stored with the change that it tells about.
            Effect::Tell(_) => (None, change),
        };
        match input {
            Some(input) => self.apply(study, None, input, change).await.map(drop),
            None => {
                let at = self.clock.now();
                self.store.commit(Change { at, ..change }).await?;
                self.moved();
                Ok(())
            }
        }
    }

    /// Draws the cohort from approving active sites, each set of them equally likely.
    async fn draw(
        &self,
        record: &StudyRecord,
        id: RoundId,
        change: Change,
    ) -> Result<(Option<Input>, Change), DriveError> {
        let study = &record.study;
        if !matches!(study.phase(), Phase::Drawing { .. }) || !is_at(study, id) {
            return Ok((None, change));
        }
        let roster = self.members.refresh().await?;
        let active = self.members.active_sites();
        let approving: Vec<SiteId> = study.approving(&active).collect();
        let rules = study.rules();
        let Some(roster) = roster.filter(|_| approving.len() >= rules.cohort as usize) else {
            return Ok((Some(Input::NotDrawn), change));
        };
        let now = self.clock.now();
        let versions = self.store.versions(study.id()).await?;
        let start = versions
            .iter()
            .find(|version| version.number == study.version());
        let start = start.ok_or_else(|| OutOfRange::new("version", "stored", study.version()))?;
        let deadline = now + rules.deadline;
        let secure_aggregation = SecureAggregation::of(
            &record.plan,
            id.round,
            record.layout.parameters(),
            rules.cohort as usize,
            super::secure::end_of(now, deadline).0,
        );
        let spec = RoundSpec {
            round: id,
            roster_epoch: roster.epoch(),
            roster_digest: roster.digest(),
            plan_digest: record.plan_digest(),
            layout_digest: record.layout.digest(),
            model_digest: start.model_digest.as_slice().try_into()?,
            cohort: draw_from(approving, rules.cohort as usize)?,
            quorum: rules.quorum,
            issued_at: now.0,
            deadline: deadline.0,
            chunk_bytes: record.chunk_bytes,
            secure_aggregation: secure_aggregation
                .map_err(|error| SecureError::Terms(error.into()))?,
        };
        let round = Round::open(&spec, rules.grace);
        let change = Change {
            spec: Some((id, spec.sign(&self.identity))),
            ..change
        };
        Ok((Some(Input::Drawn(round)), change))
    }

    /// Sums and moves the model; nothing is left to apply where the attempt's machine had to be told
    /// in the same transaction.
    async fn aggregate(
        &self,
        record: &StudyRecord,
        id: RoundId,
        change: Change,
    ) -> Result<Option<(Option<Input>, Change)>, DriveError> {
        let round = record.study.round().filter(|round| round.id() == id);
        let (round, updates) = match round.map(|round| (round, round.phase())) {
            Some((round, RoundPhase::Aggregating { updates })) => (round, updates),
            _ => return Ok(Some((None, change))),
        };
        let updates = match round.is_secure() {
            true => match self.opening(id).await? {
                Some((terms, opening)) => {
                    let sum = MaskedSum::new(id, terms, opening, record.chunk_bytes);
                    let sum = sum.scaled(self.step_of_a_unit(record, id).await?);
                    Updates::Masked(Box::new(sum))
                }
                None => return Err(SecureError::Closed(id).into()),
            },
            false => Updates::Clear(
                (updates.iter())
                    .map(|(&site, receipt)| (site, receipt.weight.unwrap_or(1)))
                    .collect(),
            ),
        };
        let aggregation = Aggregation {
            round: id,
            layout: record.layout.clone(),
            chunk_bytes: record.chunk_bytes,
            updates,
            strategy: record.plan.strategy,
        };
        let (model, sum) = match self.on_own_thread(aggregation).await {
            Ok(combined) => combined,
            Err(error) if error.is_lasting() => {
                warn!(round = %id, %error, "updates could not be combined");
                let reason = error.to_string();
                let input = round::Input::AggregationFailed { reason };
                if round.is_secure() {
                    let told = secagg::Input::NotPlausible;
                    self.conclude(id, told, input, change).await?;
                    return Ok(None);
                }
                return Ok(Some((Some(Input::Round(id, input)), change)));
            }
            Err(AggregationError::Blob(error)) => return Err(error.into()),
            Err(error) => return Err(publication::CardError::Model(error).into()),
        };
        let version = self.version(record, id, model, sum.as_ref()).await?;
        let change = Change {
            version: Some((id.study, version)),
            ..change
        };
        let input = round::Input::Aggregated { model };
        let Some(sum) = sum else {
            return Ok(Some((Some(Input::Round(id, input)), change)));
        };
        let told = secagg::Input::Published {
            sum: sum.digest,
            model: *model.as_bytes(),
        };
        self.conclude(id, told, input, change).await?;
        Ok(None)
    }

    /// What the mean of a sum's units moves a coordinate by. Sites of a distributed round send clipped
    /// sums of gradients in lattice units; the step that each would have taken is taken here, once.
    async fn step_of_a_unit(&self, record: &StudyRecord, id: RoundId) -> Result<f64, DriveError> {
        let signed = self.store.spec(id).await?.ok_or(SecureError::Closed(id))?;
        let spec = RoundSpec::open(&signed, &self.identity.public_key());
        let spec = spec.map_err(SecureError::from)?;
        let training = &record.plan.training;
        Ok(match spec.secure_aggregation.map(|secure| secure.form) {
            Some(Form::Shares { lattice_step, .. }) => {
                let (done, rounds) = (u64::from(id.round - 1), u64::from(record.plan.rounds));
                let length = training.learning_rate * training.schedule.factor(done, rounds);
                -length * lattice_step / f64::from(training.batch_size)
            }
            _ => 1.0,
        })
    }

    /// Sums on a blocking thread: opening and adding a model's chunks is work, not waiting.
    async fn on_own_thread(
        &self,
        mut aggregation: Aggregation,
    ) -> Result<(ModelDigest, Option<Summed>), AggregationError> {
        let (blobs, runtime) = (self.blobs.clone(), tokio::runtime::Handle::current());
        let work = move || {
            let model = runtime.block_on(aggregation.run(&blobs))?;
            let sum = match aggregation.updates {
                Updates::Masked(sum) => sum.finish(),
                Updates::Clear(_) => None,
            };
            Ok((model, sum))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome,
            // The thread panicked, or the program ends: either way it is for the caller.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn version(
        &self,
        record: &StudyRecord,
        id: RoundId,
        model: ModelDigest,
        sum: Option<&Summed>,
    ) -> Result<wire::Version, DriveError> {
        let counted = record.study.round().map(Round::updates).unwrap_or_default();
        let updates = self.store.updates(id).await?;
        let contributions = updates
            .iter()
            .filter(|update| counted.contains_key(&update.site))
            .map(|update| chronicle::contribution(update, &self.members))
            .collect();
        Ok(wire::Version {
            number: id.round,
            model_digest: model.as_bytes().to_vec(),
            published_at: self.clock.now().0,
            contributions,
            sums: sum.map(|sum| sums(record, id, sum)),
        })
    }

    /// Deletes what nobody reads any more: the updates of a closed attempt and, once its version is
    /// published, the optimiser's state before it.
    async fn discard(
        &self,
        record: &StudyRecord,
        id: RoundId,
    ) -> Result<Option<Input>, DriveError> {
        self.abandon(id).await?;
        self.blobs.delete(&BlobName::updates(id)).await?;
        if record.study.version() >= id.round {
            self.blobs
                .delete(&BlobName::optimizers(id.study, id.round - 1))
                .await?;
        }
        Ok(None)
    }

    async fn release(
        &self,
        record: &StudyRecord,
        change: Change,
    ) -> Result<(Option<Input>, Change), DriveError> {
        let study = record.study.id();
        if self.store.release(study).await?.is_some() {
            return Ok((None, change));
        }
        let versions = self.store.versions(study).await?;
        let (model, card) =
            publication::card_of(record, &versions, &self.blobs, &self.identity).await?;
        let entry =
            Entry::by_coordinator("model released", json!({ "study": study, "model": model }));
        let change = Change {
            release: Some((study, Release { model, card })),
            entries: vec![entry],
            ..change
        };
        Ok((None, change))
    }
}

/// What a version tells about its sum besides the update: of each figure the sum and the count.
fn sums(record: &StudyRecord, id: RoundId, sum: &Summed) -> wire::Sums {
    let figures = record.plan.figures(id.round);
    let pairs = sum.figures.as_chunks::<2>().0;
    wire::Sums {
        weight: sum.weight,
        figures: (figures.into_iter().zip(pairs))
            .map(|(figure, [sum, count])| wire::Figure {
                name: figure.name().to_owned(),
                sum: *sum,
                count: *count,
            })
            .collect(),
    }
}

/// The first `size` places of a Fisher-Yates shuffle, in ascending order.
fn draw_from(mut sites: Vec<SiteId>, size: usize) -> Result<Vec<SiteId>, OutOfRange> {
    let random = SystemRandom::new();
    for place in 0..size {
        let left = sites.len() - place;
        sites.swap(place, place + below(left as u32, &random)? as usize);
    }
    sites.truncate(size);
    sites.sort_unstable();
    Ok(sites)
}

/// A number below `bound`, each equally likely: draws that would favour the small ones are thrown
/// away.
fn below(bound: u32, random: &SystemRandom) -> Result<u32, OutOfRange> {
    let fair = u32::MAX - u32::MAX % bound;
    loop {
        let mut bytes = [0; 4];
        random
            .fill(&mut bytes)
            .map_err(|_| OutOfRange::new("system randomness", "available", "none"))?;
        let drawn = u32::from_le_bytes(bytes);
        if drawn < fair {
            return Ok(drawn % bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use consilium_proto::MemberId;

    use super::*;

    #[test]
    fn every_site_is_drawn_about_equally_often() {
        let sites: Vec<_> = (1..=5).map(|id| SiteId(MemberId(id))).collect();
        let mut counts = [0_u32; 6];
        for _ in 0..5_000 {
            let cohort = draw_from(sites.clone(), 2).expect("randomness");
            assert!(cohort[0] < cohort[1]);
            cohort
                .iter()
                .for_each(|site| counts[site.0.0 as usize] += 1);
        }
        // Binomial(5000, 2/5): mean 2000, deviation 34.6. Seven deviations: false alarms below
        // 10^-10.
        for count in &counts[1..] {
            assert!((1757..=2243).contains(count), "{counts:?}");
        }
    }
}
