//! Turns, and the figures made of them.

use consilium_privacy::noise::LatticeNoise;
use serde::{Deserialize, Serialize};

use super::{
    BenchmarkError, Cell, Setting, Task, Way,
    clock::{Cost, peak_mb, per_step},
};
use crate::profile::Table;

/// Private training should hold at most so many times what ordinary training does.
const MEMORY_BAR: f64 = 1.3;

/// What was measured, turn by turn.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Turns {
    plain: Vec<Cost>,
    private: Vec<Cost>,
    /// One step's noise.
    noise: Vec<Cost>,
    /// The way beside them.
    beside: Vec<Cost>,
    /// Of the process, in MB of 10⁶ bytes.
    pub(super) peak_mb: Option<f64>,
    pub(super) plain_profile: Option<Table>,
    pub(super) private_profile: Option<Table>,
}

/// Medians over turns. What was not measured is missing.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Its name.
    pub network: String,
    /// Examples of a step.
    pub batch: u32,
    /// Where it computed.
    pub device: String,
    /// Examples a second of ordinary training, on the wall's clock.
    pub plain_examples_per_s: Option<f64>,
    /// The same of private training.
    pub private_examples_per_s: Option<f64>,
    /// Most memory of a process that trains privately, in MB of 10⁶ bytes; of one that does not, where that
    /// alone was measured.
    pub peak_memory_mb: Option<f64>,
    /// Most memory of a process that trains without privacy.
    pub plain_peak_memory_mb: Option<f64>,
    /// The quotient of both.
    pub private_to_plain_memory: Option<f64>,
    /// Whether that is 1.3 at most.
    pub is_memory_within_bar: Option<bool>,
    /// Threads that compute gradients.
    pub threads: usize,
    /// Whether stretches were run again.
    pub recompute: bool,
    /// Turns that medians were taken of.
    pub turns: usize,
    /// Processor seconds of 1000 examples.
    pub plain_cpu_s_per_1k: Option<f64>,
    /// The same of private training.
    pub private_cpu_s_per_1k: Option<f64>,
    /// Of its noise alone.
    pub noise_cpu_s_per_1k: Option<f64>,
    /// Of the way beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yardstick_cpu_s_per_1k: Option<f64>,
    /// Processor time of private over ordinary training.
    pub private_to_plain: Option<f64>,
    /// The same without the noise.
    pub private_without_noise_to_plain: Option<f64>,
    /// Processor time of ordinary training over that of the way beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain_to_yardstick: Option<f64>,
    /// Where time went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain_profile: Option<Table>,
    /// The same of private training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_profile: Option<Table>,
}

/// Does a task in this process.
pub(super) fn take_turns(
    task: &Task,
    beside: impl for<'a> FnOnce(&'a Setting) -> Option<Box<dyn Fn() + 'a>>,
) -> Result<Turns, BenchmarkError> {
    let is_wanted = |way| task.only.is_none() || task.only == Some(way);
    let setting = |way| {
        let setting = is_wanted(way).then(|| Setting::new(task, way));
        setting.transpose()
    };
    let (plain, private) = (setting(Way::Plain)?, setting(Way::Private)?);
    let beside = plain.as_ref().and_then(beside);
    let steps = task.cell.network.steps();
    let mut turns = Turns::default();
    for _ in 0..task.turns {
        if let Some(plain) = &plain {
            turns.plain.push(plain.round()?);
        }
        if let Some(private) = &private {
            turns.private.push(private.round()?);
        }
        if task.only.is_none() {
            let mut noise = vec![0; private.as_ref().map_or(0, Setting::parameters)];
            let mut fresh = LatticeNoise::fresh()?;
            turns.noise.push(per_step(steps, || fresh.add(&mut noise)));
        }
        if let Some(beside) = &beside {
            turns.beside.push(per_step(steps, beside));
        }
    }
    turns.peak_mb = peak_mb();
    let table = |setting: &Setting| Some(setting.network().profile()?.take());
    turns.plain_profile = plain.as_ref().and_then(table);
    turns.private_profile = private.as_ref().and_then(table);
    Ok(turns)
}

impl Figures {
    /// Figures of turns, and the memory of ordinary and of private training.
    pub fn new(cell: Cell, turns: &Turns, peaks: [Option<f64>; 2]) -> Self {
        let rate =
            |costs: &[Cost]| f64::from(cell.batch) / median(costs.iter().map(|cost| cost.wall));
        let cpu = |costs: &[Cost]| {
            1000.0 / f64::from(cell.batch) * median(costs.iter().map(|cost| cost.cpu))
        };
        let ratio =
            |of: &[Cost], to: &[Cost]| median(of.iter().zip(to).map(|(of, to)| of.cpu / to.cpu));
        let Turns {
            plain,
            private,
            noise,
            beside,
            ..
        } = turns;
        let without = private.iter().zip(noise).map(|(private, noise)| Cost {
            cpu: private.cpu - noise.cpu,
            ..*private
        });
        let without: Vec<Cost> = without.collect();
        let [plain_peak, private_peak] = peaks;
        let memory = plain_peak.zip(private_peak);
        let memory = memory.map(|(plain, private)| private / plain);
        Self {
            network: cell.network.to_string(),
            batch: cell.batch,
            device: cell.device.to_string(),
            plain_examples_per_s: rounded(rate(plain)),
            private_examples_per_s: rounded(rate(private)),
            peak_memory_mb: private_peak.or(plain_peak).and_then(rounded),
            plain_peak_memory_mb: plain_peak.and_then(rounded),
            private_to_plain_memory: memory.and_then(rounded),
            is_memory_within_bar: memory.map(|ratio| ratio <= MEMORY_BAR),
            threads: cell.threads.get(),
            recompute: cell.recomputes,
            turns: plain.len().max(private.len()),
            plain_cpu_s_per_1k: rounded(cpu(plain)),
            private_cpu_s_per_1k: rounded(cpu(private)),
            noise_cpu_s_per_1k: rounded(cpu(noise)),
            yardstick_cpu_s_per_1k: rounded(cpu(beside)),
            private_to_plain: rounded(ratio(private, plain)),
            private_without_noise_to_plain: rounded(ratio(&without, plain)),
            plain_to_yardstick: rounded(ratio(plain, beside)),
            plain_profile: turns.plain_profile.clone(),
            private_profile: turns.private_profile.clone(),
        }
    }
}

/// Four digits behind the point; none of what was not measured.
fn rounded(value: f64) -> Option<f64> {
    value.is_finite().then(|| (value * 1e4).round() / 1e4)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
