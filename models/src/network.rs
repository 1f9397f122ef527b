//! Networks by name, and their gradients, apart per example or summed.
//!
//! A network is a list of layers over one flat vector of weights. Each layer has one forward pass
//! for inference and training (`tape.rs` says how); nothing in a network's file speaks of privacy.
//! **No layer mixes examples**: what one example contributes depends on that example and the
//! weights alone, which is what clipping per patient rests on. A test holds every network to it,
//! bit for bit.

mod batch;
mod blueprint;
mod cnn;
mod cnn_small;
mod convolution;
mod dense;
mod group_norm;
mod loss;
#[cfg(test)]
mod oracle;
mod patches;
mod per_example;
mod perceptron;
mod pooling;
mod resnet_gn;
mod tape;
mod weights;

use burn::tensor::{Device, Tensor, TensorData};
use consilium_proto::{
    Layout, OutOfRange, ParameterVector, Plan,
    plan::{self, Loss},
};

use self::blueprint::{Blueprint, Initial};
use self::tape::Tape;
pub use self::{
    batch::{Batch, Target},
    per_example::PerExample,
    weights::Weights,
};
use crate::random::Random;

/// Floats that one microbatch may hold for its layers: 128 MB a thread.
const FLOATS: usize = 32 << 20;

/// Most examples of a microbatch whose gradients stay apart. Small, because a private step pads
/// its last microbatch to this size.
const PRIVATE_MICROBATCH: usize = 8;

/// Most examples of a microbatch whose gradients are summed at once, or that is only predicted: as
/// many as still fit the processor's caches on small images. More were slower, not faster.
const PLAIN_MICROBATCH: usize = 32;

/// Why a network cannot do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The plan asks for more parameters than a layout may have.
    #[error("the network of this plan cannot be laid out")]
    Layout(#[source] OutOfRange),
    /// The plan names a network and an input that do not belong together.
    #[error("network `{0}` and the input of this plan do not belong together")]
    Input(&'static str),
    /// Weights of another network.
    #[error("the network has {expected} parameters, the weights {found}")]
    WeightCount {
        /// Parameters of the network.
        expected: usize,
        /// Parameters given.
        found: usize,
    },
    /// An example of another size than the plan's.
    #[error("the network takes {expected} numbers an example, found {found}")]
    InputLength {
        /// Numbers that the network takes.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// A class that the plan does not list, or a target of the other kind.
    #[error("the target of an example must be {expected}")]
    Target {
        /// What the network can learn.
        expected: String,
    },
}

/// Forward pass of one network: a list of layers, in order.
trait Architecture: Send + Sync {
    /// Scores every class, or estimates the value, for each example.
    ///
    /// # Shapes
    /// - `inputs`: `[examples, numbers]`
    /// - output: `[examples, outputs]`, logits or values
    fn forward(&self, weights: &Weights, inputs: Tensor<2>, tape: &mut Tape) -> Tensor<2>;
}

/// A network as a plan describes it. Holds no weights.
pub struct Network {
    architecture: Box<dyn Architecture>,
    layout: Layout,
    initials: Vec<Initial>,
    floats: usize,
    inputs: usize,
    outputs: usize,
    loss: Loss,
    device: Device,
}

impl Network {
    /// Builds the network that a plan names.
    ///
    /// # Errors
    /// A network that does not fit its input, or has too many parameters.
    pub fn from_plan(plan: &Plan) -> Result<Self, NetworkError> {
        let mut blueprint = Blueprint::default();
        let outputs = plan.outputs();
        let shape = plan
            .image
            .as_ref()
            .map(|image| [image.channels, image.height, image.width]);
        let (architecture, inputs): (Box<dyn Architecture>, usize) = match (&plan.network, shape) {
            (plan::Network::CnnSmall, Some(shape)) => (
                Box::new(cnn_small::CnnSmall::new(&mut blueprint, shape, outputs)),
                shape.iter().product(),
            ),
            (plan::Network::Cnn, Some(shape)) => (
                Box::new(cnn::Cnn::new(&mut blueprint, shape, outputs)),
                shape.iter().product(),
            ),
            (&plan::Network::ResnetGn { width, depth }, Some(shape)) => {
                let sizes = resnet_gn::Sizes { width, depth };
                let network = resnet_gn::ResnetGn::new(&mut blueprint, shape, sizes, outputs);
                (Box::new(network), shape.iter().product())
            }
            (plan::Network::Dense { hidden }, None) => {
                let columns = plan.table.as_ref().map_or(0, |table| table.columns.len());
                if columns == 0 {
                    return Err(NetworkError::Input("dense"));
                }
                let network = perceptron::Perceptron::new(&mut blueprint, columns, hidden, outputs);
                (Box::new(network), columns)
            }
            (plan::Network::Dense { .. }, Some(_)) => return Err(NetworkError::Input("dense")),
            (plan::Network::CnnSmall, None) => return Err(NetworkError::Input("cnn-small")),
            (plan::Network::Cnn, None) => return Err(NetworkError::Input("cnn")),
            (plan::Network::ResnetGn { .. }, None) => {
                return Err(NetworkError::Input("resnet-gn"));
            }
        };
        let loss = plan.training.loss(plan.task);
        let Blueprint {
            tensors,
            initials,
            floats,
        } = blueprint;
        let layout = Layout::new(tensors).map_err(NetworkError::Layout)?;
        let device = Device::flex();
        Ok(Self {
            architecture,
            layout,
            initials,
            floats,
            inputs,
            outputs,
            loss,
            device,
        })
    }

    /// Names, order and shapes of its weights.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Numbers that make one example.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Numbers it gives for one example: one a class, or one value.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Where it computes, for people.
    pub fn device(&self) -> &'static str {
        "cpu"
    }

    /// The weights that a seed fixes: the same bytes on every machine, because only operations
    /// that IEEE 754 rounds exactly are used.
    pub fn initial(&self, seed: u64) -> ParameterVector {
        let mut random = Random::new(&[seed]);
        let mut values = Vec::with_capacity(self.layout.parameters());
        for (tensor, initial) in self.layout.tensors().iter().zip(&self.initials) {
            values.extend((0..tensor.parameters()).map(|_| initial.draw(&mut random)));
        }
        // Zeros, ones and numbers within a finite bound.
        ParameterVector::new(values).expect("initial weights are finite")
    }

    /// Makes weights of a flat vector ready for use.
    ///
    /// # Errors
    /// A vector of another length than the layout's.
    pub fn weights(&self, values: &[f32]) -> Result<Weights, NetworkError> {
        let expected = self.layout.parameters();
        if values.len() != expected {
            return Err(NetworkError::WeightCount {
                expected,
                found: values.len(),
            });
        }
        Ok(Weights::new(&self.layout, values, &self.device))
    }

    /// Examples of a microbatch whose gradients stay apart.
    pub fn private_microbatch(&self) -> usize {
        (FLOATS / self.floats.max(1)).clamp(1, PRIVATE_MICROBATCH)
    }

    /// Most examples of a microbatch that is summed or predicted.
    pub fn plain_microbatch(&self) -> usize {
        (FLOATS / self.floats.max(1)).clamp(1, PLAIN_MICROBATCH)
    }

    /// The gradient of each example, kept apart.
    pub fn per_example(&self, weights: &Weights, batch: &Batch) -> PerExample {
        let mut tape = Tape::recording(&self.device);
        let losses = self.losses(weights, batch, &mut tape);
        PerExample::new(&self.layout, batch.len(), tape.finish_apart(losses))
    }

    /// Adds the gradient of the sum of the losses to `sum`.
    ///
    /// # Panics
    /// Where `sum` is shorter than the layout: a mistake of the caller.
    pub fn add_gradient(&self, weights: &Weights, batch: &Batch, sum: &mut [f32]) {
        let mut tape = Tape::recording(&self.device);
        let losses = self.losses(weights, batch, &mut tape);
        let ranges: Vec<_> = self.layout.ranges().map(|(_, range)| range).collect();
        for (slot, gradient) in tape.finish_summed(losses) {
            let place = &mut sum[ranges[slot.0].clone()];
            place
                .iter_mut()
                .zip(gradient)
                .for_each(|(sum, gradient)| *sum += gradient);
        }
    }

    /// The probability of each class, or the value, for each example: `outputs` numbers each.
    /// `inputs` holds the examples one after the other.
    ///
    /// # Errors
    /// Numbers that do not make whole examples.
    pub fn predict(&self, weights: &Weights, inputs: &[f32]) -> Result<Vec<f32>, NetworkError> {
        let rest = inputs.len() % self.inputs;
        if rest != 0 {
            return Err(NetworkError::InputLength {
                expected: self.inputs,
                found: rest,
            });
        }
        let answer = |inputs: &[f32]| {
            let outputs = self.forward(weights, inputs, &mut Tape::off());
            weights::to_host(match self.loss {
                Loss::CrossEntropy => burn::tensor::activation::softmax(outputs, 1),
                Loss::MeanSquaredError => outputs,
            })
        };
        Ok(inputs
            .chunks(self.plain_microbatch() * self.inputs)
            .flat_map(answer)
            .collect())
    }

    fn losses(&self, weights: &Weights, batch: &Batch, tape: &mut Tape) -> Tensor<1> {
        loss::each(
            self.loss,
            self.forward(weights, &batch.inputs, tape),
            &batch.targets,
        )
    }

    fn forward(&self, weights: &Weights, inputs: &[f32], tape: &mut Tape) -> Tensor<2> {
        let data = TensorData::new(inputs.to_vec(), [inputs.len() / self.inputs, self.inputs]);
        self.architecture
            .forward(weights, Tensor::from_data(data, &self.device), tape)
    }

    /// An empty batch for this network.
    pub fn batch(&self) -> Batch {
        Batch::new(self.inputs, self.outputs, self.loss)
    }
}

#[cfg(test)]
mod tests;
