//! Plans as files: reading, checking, and what a person should know about one.

use std::path::Path;

use anyhow::{Context as _, Result};
use consilium_models::network::Network;
use consilium_proto::{
    Plan,
    plan::{Mode, NoiseTarget},
};

use super::Form;
use crate::output;

/// Largest plan file that is read, in bytes.
const LIMIT: u64 = 256 << 10;

/// Reads and checks a plan file.
pub(in crate::cli) fn read(path: &Path) -> Result<Plan> {
    let context = || format!("reading the plan {}", path.display());
    let length = std::fs::metadata(path).with_context(context)?.len();
    anyhow::ensure!(
        length <= LIMIT,
        "{} is too large for a plan",
        path.display()
    );
    let text = std::fs::read_to_string(path).with_context(context)?;
    Plan::from_toml(&text).with_context(context)
}

/// Says aloud what a plan leaves unprotected.
pub(super) fn warn(plan: &Plan) {
    if plan.privacy.mode == Mode::None {
        output::note(output::red(
            "privacy.mode = \"none\": updates leave the sites without noise; nothing bounds what \
             they reveal about a patient",
        ));
    }
    if plan.privacy.mode == Mode::Distributed {
        output::note(output::red(
            "privacy.mode = \"distributed\": each site adds a share of the noise, so the guarantee rests on \
             secure aggregation and on enough sites being honest",
        ));
    }
    if !plan.secure_aggregation {
        output::note(output::red(
            "secure_aggregation = false: the coordinator sees each site's update by itself",
        ));
    }
}

pub(super) fn check(path: &Path, form: Form) -> Result<()> {
    let plan = read(path)?;
    let network = Network::from_plan(&plan).with_context(|| format!("plan {}", path.display()))?;
    warn(&plan);
    let (digest, layout) = (plan.digest(), network.layout());
    if form.json {
        return output::json(&serde_json::json!({
            "plan": digest,
            "layout": layout.digest(),
            "parameters": layout.parameters(),
            "rounds": plan.rounds,
            "privacy": plan.privacy.mode,
            "secure_aggregation": plan.secure_aggregation,
        }));
    }
    let rows = [
        ("study", plan.name.clone()),
        ("plan", digest.to_string()),
        ("parameters", layout.parameters().to_string()),
        (
            "rounds",
            format!("{} of {} steps", plan.rounds, plan.training.steps),
        ),
        ("strategy", plan.strategy.name().to_owned()),
        ("privacy", privacy(&plan)),
    ];
    output::line(output::table(
        &rows.map(|(name, value)| vec![name.to_owned(), value]),
    ))?;
    output::note("the plan is sound: consilium study submit hands it in");
    Ok(())
}

/// What a plan promises each patient, in words.
pub(super) fn privacy(plan: &Plan) -> String {
    match plan.privacy.guarantee() {
        None => "none".to_owned(),
        Some(guarantee) => {
            let target = match guarantee.target {
                NoiseTarget::Epsilon(epsilon) => format!("ε ≤ {epsilon}"),
                NoiseTarget::Multiplier(sigma) => format!("noise multiplier {sigma}"),
            };
            format!(
                "{target} at δ = {:e} for each patient of a site",
                guarantee.delta
            )
        }
    }
}
