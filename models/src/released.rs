//! A model as a finished study released it: the plan, and weights from a safetensors file.

use consilium_proto::{Digest, OutOfRange, ParameterVector, Plan};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

pub use crate::decision::diagnosis::opinion::ModelIdentity;
use crate::network::{Network, NetworkError};

/// A released model, checked against its plan.
#[derive(Debug, Clone)]
pub struct Released {
    plan: Plan,
    weights: ParameterVector,
    identity: ModelIdentity,
}

/// Why a file is not the model of a plan.
#[derive(Debug, thiserror::Error)]
pub enum ReleasedError {
    /// A plan whose network cannot be built.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The file of weights is no safetensors file.
    #[error("the weights are not in the safetensors format")]
    Format(#[from] SafeTensorError),
    /// The file of weights is that of another network.
    #[error("the weights are not those of the plan's network: {0}")]
    OtherNetwork(String),
    /// Weights that are no numbers.
    #[error(transparent)]
    Values(#[from] OutOfRange),
}

impl Released {
    /// From a plan and the bytes of the file. The model goes by the plan's name and the file's digest.
    ///
    /// # Errors
    /// Bytes that are no safetensors file, a tensor that is missing or has another shape, numbers that are none.
    pub fn from_file(plan: Plan, bytes: &[u8]) -> Result<Self, ReleasedError> {
        let stored = SafeTensors::deserialize(bytes)?;
        let mut values = Vec::new();
        for spec in Network::from_plan(&plan)?.layout().tensors() {
            let name = &spec.name;
            let other = |what: &str| ReleasedError::OtherNetwork(format!("{name} {what}"));
            let tensor = stored.tensor(name).map_err(|_| other("is not there"))?;
            if tensor.shape() != spec.shape.as_slice() || tensor.dtype() != Dtype::F32 {
                return Err(other("has another shape or type"));
            }
            let numbers = tensor.data().as_chunks::<4>().0.iter();
            values.extend(numbers.map(|bytes| f32::from_le_bytes(*bytes)));
        }
        Ok(Self {
            identity: ModelIdentity {
                name: plan.name.clone(),
                version: plan.digest().to_string(),
                sha256: Digest::plain(bytes).to_string(),
            },
            weights: ParameterVector::new(values)?,
            plan,
        })
    }

    /// The plan that it was trained by.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its weights, in the order of the network's layout.
    pub fn weights(&self) -> &ParameterVector {
        &self.weights
    }

    /// Which model it is.
    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }
}
