//! Where the time of training goes.
//!
//! Threads that train look at the clock between layers and between the parts of a step, if they are asked to.
//! **What is noted depends on the records**: it is for a hospital's own log and for benchmarks, and no message
//! has a field for it.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Kinds of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// What enters a network, and what it computes without weights before its first layer.
    Input,
    Embedding,
    Convolution,
    Dense,
    Attention,
    GroupNorm,
    LayerNorm,
    Activation,
    Pooling,
    /// Chains of tags.
    Tagging,
    /// The sum of two values.
    Addition,
}

/// Parts of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Reading records, decoding and augmenting them.
    Load,
    Forward(Kind),
    Loss,
    /// Forward passes that are run again on the way back.
    Again,
    /// The way back, weight gradients included.
    Backward(Kind),
    /// Passes on a device, which is not asked layer by layer.
    Device,
    /// Norms, clipping and the sum over records.
    Sum,
    Noise,
    Optimizer,
}

/// Notes of where time went, from all threads.
#[derive(Default)]
pub struct Profile(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    spent: BTreeMap<Part, (u64, Duration)>,
    /// Steps, and the time that they took on all threads together.
    steps: (u64, Duration),
}

/// Where the time of some steps went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// In the order of a step. The last one is the rest, in which threads wait for each other or for the
    /// one that adds noise.
    pub rows: Vec<Row>,
}

/// What one part of the steps took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub part: String,
    /// How often it was done; steps, in the last row.
    pub calls: u64,
    /// Seconds, all threads together.
    pub seconds: f64,
    /// Of the seconds that all threads had, 0 to 1.
    pub share: f64,
}

impl Profile {
    /// Notes a step, which took so long on so many threads.
    pub(crate) fn step(&self, took: Duration, threads: NonZeroUsize) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.steps.0 += 1;
        notes.steps.1 += took * u32::try_from(threads.get()).unwrap_or(u32::MAX);
    }

    fn note(&self, part: Part, took: Duration) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (calls, spent) = notes.spent.entry(part).or_default();
        *calls += 1;
        *spent += took;
    }

    /// What was noted since the last time.
    pub fn take(&self) -> Table {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Notes { spent, steps } = std::mem::take(&mut *notes);
        let row = |part: String, calls, spent: Duration| Row {
            part,
            calls,
            seconds: spent.as_secs_f64(),
            share: spent.as_secs_f64() / steps.1.as_secs_f64().max(f64::MIN_POSITIVE),
        };
        let rest = steps
            .1
            .saturating_sub(spent.values().map(|(_, spent)| *spent).sum());
        let rows = spent.into_iter();
        let rows = rows.map(|(part, (calls, spent))| row(part.to_string(), calls, spent));
        let last = row("rest and waiting".into(), steps.0, rest);
        Table {
            rows: rows.chain([last]).collect(),
        }
    }
}

/// Notes the time since it last did; does nothing without a profile.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'a>(Option<(&'a Profile, Instant)>);

impl<'a> Watch<'a> {
    pub(crate) fn of(profile: Option<&'a Profile>) -> Self {
        Self(profile.map(|profile| (profile, Instant::now())))
    }

    /// What went before is nobody's.
    pub(crate) fn restart(&mut self) {
        *self = Self::of(self.0.map(|(profile, _)| profile));
    }

    /// All since the last note, or the start, went into this part.
    pub(crate) fn note(&mut self, part: Part) {
        if let Some((profile, since)) = &mut self.0 {
            let now = Instant::now();
            profile.note(part, now - *since);
            *since = now;
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Embedding => "embedding",
            Self::Convolution => "convolution",
            Self::Dense => "dense",
            Self::Attention => "attention",
            Self::GroupNorm => "group norm",
            Self::LayerNorm => "layer norm",
            Self::Activation => "activation",
            Self::Pooling => "pooling",
            Self::Tagging => "tagging",
            Self::Addition => "addition",
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => f.write_str("loading and augmenting"),
            Self::Forward(kind) => write!(f, "{kind}, forward"),
            Self::Loss => f.write_str("loss"),
            Self::Again => f.write_str("forward again"),
            Self::Backward(kind) => write!(f, "{kind}, backward"),
            Self::Device => f.write_str("device, forward and backward"),
            Self::Sum => f.write_str("clipping and sum"),
            Self::Noise => f.write_str("noise"),
            Self::Optimizer => f.write_str("optimiser"),
        }
    }
}

/// A header and a line a part.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<28} {:>8} {:>10} {:>6}",
            "part", "calls", "seconds", "share"
        )?;
        for Row {
            part,
            calls,
            seconds,
            share,
        } in &self.rows
        {
            let percent = 100.0 * share;
            write!(f, "\n{part:<28} {calls:>8} {seconds:>10.4} {percent:>5.1}%")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_the_rest_add_up_to_the_time_of_all_threads() {
        let profile = Profile::default();
        let second = Duration::from_secs(1);
        profile.note(Part::Backward(Kind::Dense), second);
        profile.note(Part::Load, second);
        profile.note(Part::Load, second);
        profile.step(2 * second, NonZeroUsize::new(2).expect("two"));
        let table = profile.take();
        let rows = table
            .rows
            .iter()
            .map(|row| (&*row.part, row.calls, row.share));
        let expected = [
            ("loading and augmenting", 2, 0.5),
            ("dense, backward", 1, 0.25),
            ("rest and waiting", 1, 0.25),
        ];
        assert_eq!(rows.collect::<Vec<_>>(), expected);
        let text = table.to_string();
        assert!(
            text.contains("loading and augmenting              2     2.0000  50.0%"),
            "{text}"
        );
        assert_eq!(profile.take().rows.len(), 1, "it begins anew");
    }

    #[test]
    fn without_a_profile_nothing_is_noted() {
        let mut watch = Watch::of(None);
        watch.note(Part::Noise);
        watch.restart();
        assert!(watch.0.is_none());
    }
}
