//! A model as a finished study released it: the plan, and weights from a safetensors file.

use consilium_proto::{Digest, OutOfRange, ParameterVector, Plan};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

pub use crate::decision::diagnosis::opinion::ModelIdentity;
use crate::network::{Network, NetworkError, OnnxError};

/// What everybody who opens a model should read first.
const USE: &str = "For research use only: not a medical device.";

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

/// Why a model cannot be written for other programs.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The plan's network cannot be built.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The format cannot hold it.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
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

    /// The model as a file in the ONNX format, for other programs. Its input is what the plan's steps before
    /// the network make of an example, `[batch, …]` in floats, words as their numbers; its output `probabilities`
    /// (of a regression `value`), `[batch, classes]`. What it was made from stands in its metadata.
    ///
    /// # Errors
    /// A network that the format has no operators for, or that is too large for it.
    pub fn to_onnx(&self) -> Result<Vec<u8>, ExportError> {
        let plan = &self.plan;
        let network = Network::from_plan(plan)?;
        let weights = network.weights(self.weights.as_slice())?;
        let image = plan.image.as_ref();
        let shape = match image {
            Some(image) => vec![image.channels, image.height, image.width],
            None => vec![network.inputs()],
        };
        let classes = serde_json::to_string(&plan.classes).unwrap_or_default();
        let mut notes = vec![
            ("use", USE.to_owned()),
            ("name", self.identity.name.clone()),
            ("plan_digest", self.identity.version.clone()),
            ("weights_sha256", self.identity.sha256.clone()),
            ("network", plan.network.name().to_owned()),
            ("task", plan.task.name().to_owned()),
            ("classes", classes),
            ("input_shape", format!("{shape:?}")),
        ];
        if let Some(image) = image {
            notes.push(("mean", image.mean.to_string()));
            notes.push(("deviation", image.deviation.to_string()));
        }
        let about = format!("{}. {USE}", self.identity.name);
        Ok(network.to_onnx(plan.network.name(), &weights, &shape, &about, &notes)?)
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
