//! The clipping that a plan names.

use consilium_privacy::{
    OutOfRange,
    accountant::NoiseMultiplier,
    step::{Adaptive, Clipping},
};
use consilium_proto::{Layout, Plan, plan};

use super::TrainError;

/// Refuses noise that a plan's clipping has no room for.
///
/// # Errors
/// Adaptive clipping whose noise on a count is not above half the noise multiplier.
pub fn check_noise(plan: &Plan, sigma: NoiseMultiplier) -> Result<(), OutOfRange> {
    match adaptive(plan)? {
        Some(adaptive) => adaptive.check(sigma),
        None => Ok(()),
    }
}

/// The plan's clipping for the layers of a layout: tensors whose names differ in the last word alone
/// belong to one.
pub(super) fn clipping(plan: &Plan, layout: &Layout) -> Result<Clipping, TrainError> {
    if let Some(adaptive) = adaptive(plan).map_err(TrainError::Plan)? {
        return Ok(Clipping::Adaptive(adaptive));
    }
    Ok(match plan.privacy.clipping {
        plan::Clipping::Automatic { gamma } => Clipping::Automatic { gamma },
        plan::Clipping::PerLayer => Clipping::PerLayer { ends: ends(layout) },
        plan::Clipping::Flat | plan::Clipping::Adaptive { .. } => Clipping::Flat,
    })
}

/// Where a plan's adaptive clipping moves: the noise on a count is given over the batch size.
fn adaptive(plan: &Plan) -> Result<Option<Adaptive>, OutOfRange> {
    let plan::Clipping::Adaptive {
        quantile,
        rate,
        count_noise,
    } = plan.privacy.clipping
    else {
        return Ok(None);
    };
    let count_noise = count_noise * f64::from(plan.training.batch_size);
    Adaptive::new(quantile, rate, count_noise).map(Some)
}

fn ends(layout: &Layout) -> Vec<usize> {
    let mut ends = Vec::<usize>::new();
    let mut last = None;
    for (tensor, range) in layout.ranges() {
        let layer = tensor
            .name
            .rsplit_once('.')
            .map_or(&*tensor.name, |(layer, _)| layer);
        if last == Some(layer) {
            ends.pop();
        }
        ends.push(range.end);
        last = Some(layer);
    }
    ends
}

#[cfg(test)]
mod tests {
    use consilium_proto::TensorSpec;

    use super::*;

    #[test]
    fn tensors_of_one_layer_are_clipped_together() {
        let tensor = |name: &str, parameters| TensorSpec {
            name: name.into(),
            shape: vec![parameters],
        };
        let names = [
            ("a.weight", 6),
            ("a.bias", 2),
            ("b.gn.weight", 3),
            ("b.gn.bias", 3),
            ("c", 1),
        ];
        let tensors = names.map(|(name, parameters)| tensor(name, parameters));
        let layout = Layout::new(tensors.to_vec()).expect("a small layout");
        assert_eq!(ends(&layout), [8, 14, 15]);
    }
}
