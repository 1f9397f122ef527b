//! Version 0 of a study's weights, which everybody makes for themselves and compares by its digest.
//!
//! The plan's seed fixes all of it. Where the plan trains a public encoder on, the encoder's weights take the
//! place of those of the same name, and the seed fixes what stands on top.

use std::path::Path;

use consilium_proto::{ParameterVector, Plan, plan};

pub use crate::text::bert::PublicEncoderError;
use crate::{network::Network, text::bert::PublicEncoder};

/// The weights that a study starts from. `encoder` is the folder of the public encoder that some plans ask for.
///
/// # Errors
/// The plan trains a public encoder on that is not there, or is another one.
pub fn start(
    plan: &Plan,
    network: &Network,
    encoder: Option<&Path>,
) -> Result<ParameterVector, PublicEncoderError> {
    let weights = network.initial(plan.seed);
    if !matches!(plan.network, plan::Network::Bert { .. }) {
        return Ok(weights);
    }
    let encoder = PublicEncoder::open(plan, encoder)?;
    let mut values = weights.into_vec();
    for (tensor, range) in network.layout().ranges() {
        if let Some(public) = encoder.weights.starting(&tensor.name)
            && let Some(public) = public.get(..range.len())
        {
            values[range].copy_from_slice(public);
        }
    }
    // A public encoder's weights are checked when they are read, and two of them are added at most.
    Ok(ParameterVector::new(values).expect("the encoder's weights are finite"))
}
