//! What a plan would cost one site, before anybody trains.

use std::path::Path;

use anyhow::{Context as _, Result};
use consilium_agent::policy::Noise;
use consilium_privacy::accountant::{Accountant as _, Delta, Pld, Rdp};
use consilium_proto::{ErrorCode, Plan};
use serde::Serialize;

use super::{finite, read_text, rounded_up};
use crate::{
    chart::{BLUE, Chart, PictureFile, RED, Series},
    failure::refuse,
    output,
};

/// Most rounds for which ε is computed; they are spread evenly.
const POINTS: u32 = 16;

/// ε after a round, if all rounds up to it were trained at the first attempt.
#[derive(Debug, Clone, Copy, Serialize)]
struct Point {
    round: u32,
    epsilon_rdp: f64,
    /// None where δ is below what this accountant resolves.
    epsilon_pld: Option<f64>,
}

pub(super) fn run(
    path: &Path,
    public_size: u64,
    picture: Option<&PictureFile>,
    json: bool,
) -> Result<()> {
    let plan = Plan::from_toml(&read_text(path, "plan")?)
        .with_context(|| format!("reading the plan {}", path.display()))?;
    if public_size == 0 {
        return refuse(
            ErrorCode::Invalid,
            "--public-size: must be at least 1, found 0",
        );
    }
    let Some(guarantee) = plan.privacy.guarantee() else {
        return refuse(
            ErrorCode::Precondition,
            "this plan trains without privacy: nothing bounds what it reveals about a patient",
        );
    };
    let noise = Noise::of(&plan, &guarantee, public_size).context("privacy of the plan")?;
    let delta = Delta::try_from(guarantee.delta).context("privacy.delta of the plan")?;
    let points = points(&plan, &noise, delta)?;
    if let Some(file) = picture {
        write_picture(file, delta, &points)?;
    }
    let largest_delta = 0.1 / public_size as f64;
    if delta.value() > largest_delta {
        output::note(format_args!(
            "a site of this size refuses the plan: its delta may be at most {largest_delta:.2e}, \
             1 / (10 x public size)"
        ));
    }
    if json {
        return output::json(&serde_json::json!({
            "sampling_rate": noise.sampling_rate,
            "noise_multiplier": noise.noise_multiplier,
            "rounds": plan.rounds,
            "steps_per_round": plan.training.steps,
            "steps": u64::from(plan.rounds) * u64::from(plan.training.steps),
            "delta": delta,
            "adjacency": super::ADJACENCY,
            "unit": plan.privacy.unit,
            "epsilon_over_rounds": points,
        }));
    }
    print(&plan, &noise, delta, &points)
}

fn points(plan: &Plan, noise: &Noise, delta: Delta) -> Result<Vec<Point>> {
    let (mut rdp, mut pld) = (Rdp::new(), Pld::new());
    let resolves = delta.value() >= Pld::SMALLEST_DELTA;
    let mut points = Vec::new();
    for round in rounds(plan.rounds) {
        let steps = round.checked_mul(plan.training.steps);
        let charge = noise.charge(steps.context("more than 4294967295 steps")?);
        let epsilon_pld = resolves.then(|| finite(pld.epsilon(&[charge], delta)));
        points.push(Point {
            round,
            epsilon_rdp: finite(rdp.epsilon(&[charge], delta))?,
            epsilon_pld: epsilon_pld.transpose()?,
        });
    }
    Ok(points)
}

/// The first round, the last, and some between.
fn rounds(all: u32) -> impl Iterator<Item = u32> {
    let (steps, last) = (all.min(POINTS) - 1, u64::from(all) - 1);
    let between = move |i| 1 + (last * u64::from(i) / u64::from(steps.max(1))) as u32;
    (0..=steps).map(between)
}

fn print(plan: &Plan, noise: &Noise, delta: Delta, points: &[Point]) -> Result<()> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let facts = [
        row("sampling_rate (q)", noise.sampling_rate.to_string()),
        row(
            "noise_multiplier (sigma)",
            rounded_up(noise.noise_multiplier.value()),
        ),
        row(
            "steps",
            format!("{} rounds of {}", plan.rounds, plan.training.steps),
        ),
        row("delta", format!("{:e}", delta.value())),
        row(
            "protects",
            "each patient of the site, added or removed".to_owned(),
        ),
    ];
    output::line(output::table(&facts))?;
    output::line("")?;
    let mut rows = vec![
        ["after round", "epsilon by rdp", "epsilon by pld"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for point in points {
        let pld = point.epsilon_pld.map_or_else(|| "-".to_owned(), rounded_up);
        rows.push(vec![
            point.round.to_string(),
            rounded_up(point.epsilon_rdp),
            pld,
        ]);
    }
    output::line(output::table(&rows))?;
    output::note(
        "the ledger charges by rdp; pld may be quoted for this plan as it stands, not for a total \
         over studies",
    );
    Ok(())
}

fn write_picture(file: &PictureFile, delta: Delta, points: &[Point]) -> Result<()> {
    let series = |name: &str, colour, value: fn(&Point) -> Option<f64>| {
        let known = points
            .iter()
            .filter_map(|point| Some((f64::from(point.round), value(point)?)));
        // Nothing is spent before the first round.
        let points = [(0.0, 0.0)].into_iter().chain(known).collect();
        Series {
            name: name.to_owned(),
            colour,
            points,
        }
    };
    let chart = Chart {
        title: format!("epsilon over rounds, delta = {:e}", delta.value()),
        below: "round",
        top: None,
        series: vec![
            series("rdp", BLUE, |point| Some(point.epsilon_rdp)),
            series("pld", RED, |point| point.epsilon_pld),
        ],
    };
    chart.save(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_begins_at_the_first_round_and_ends_at_the_last() {
        let chosen = |all| rounds(all).collect::<Vec<_>>();
        assert_eq!(chosen(1), [1]);
        assert_eq!(chosen(3), [1, 2, 3]);
        for all in [16, 17, 40, 100_000] {
            let chosen = chosen(all);
            assert_eq!((chosen.len(), chosen[0], chosen[15]), (16, 1, all));
            assert!(chosen.is_sorted_by(|a, b| a < b), "{chosen:?}");
        }
    }
}
