//! How layers get their weight gradients on a device, whose own backward pass sums over examples.
//!
//! To the output of each layer with weights a tensor of zeros is added, the *tap*, whose gradient is
//! the gradient of the loss at that output. One backward pass gives the gradients at all taps;
//! weights are constants of that pass. As no layer mixes examples, row i of a tap's gradient
//! belongs to example i alone, so the layer can form each example's weight gradient from the rows of
//! its input and its tap. They are copied to the host in one go: clipping and sums stay there.

use burn::tensor::{Tensor, TensorData, Transaction};

use super::{
    blueprint::Slot, device::DeviceError, embedding::Embedding, gradients::Sink, weights::Weights,
};

/// Forms a layer's weight gradients from the gradient at its output, `[examples, numbers]`.
type Form = Box<dyn FnOnce(Tensor<2>) -> Vec<(Slot, Gradient)>>;

/// The taps of one forward pass.
#[derive(Default)]
pub(super) struct Taps(Vec<(Tensor<2>, Form)>);

/// The gradient of one tensor of weights, for each example.
pub(super) enum Gradient {
    /// `[examples, numbers]`.
    Rows(Tensor<2>),
    /// `leftᵀ · right` for each example.
    Product {
        /// `[examples, positions, rows]`.
        left: Tensor<3>,
        /// `[examples, positions, columns]`.
        right: Tensor<3>,
    },
    /// For each position of an example the gradient of the rows of a table.
    Tokens {
        /// Says which row counts where.
        layer: Embedding,
        /// `[examples][positions][slots]`.
        tokens: Vec<usize>,
        /// `[examples, positions · features]`.
        rows: Tensor<2>,
    },
}

/// What is copied to the host of a gradient.
enum Copied {
    /// Gradients of all examples, or their sum.
    Rows,
    /// The left factor; the right one comes next.
    Outer,
    Tokens {
        layer: Embedding,
        tokens: Vec<usize>,
    },
}

impl Taps {
    /// Adds a tap to a layer's output. The first one says whether burn's backward pass recomputes what is
    /// bound by memory.
    pub(super) fn add(
        &mut self,
        output: Tensor<2>,
        recomputes: bool,
        form: impl FnOnce(Tensor<2>) -> Vec<(Slot, Gradient)> + 'static,
    ) -> Tensor<2> {
        let device = output.device().autodiff();
        let device = match recomputes {
            true => device.gradient_checkpointing(),
            false => device,
        };
        let tap = Tensor::zeros(output.dims(), &device).require_grad();
        self.0.push((tap.clone(), Box::new(form)));
        output + tap
    }

    /// Goes back from the gradient at a network's output and hands the weight gradients of the first
    /// `examples` to a sink. The others fill up the microbatch, and the gradient has zeros for them.
    pub(super) fn back(
        self,
        output: Tensor<2>,
        mut gradient: Vec<f32>,
        examples: usize,
        (weights, sink): (&Weights, &mut Sink),
    ) -> Result<(), DeviceError> {
        let shape @ [filled, width] = output.dims();
        gradient.resize(filled * width, 0.0);
        let gradient = TensorData::new(gradient, shape);
        let gradient = Tensor::<2>::from_data(gradient, &output.device().inner());
        // The gradient of this sum at the output is the gradient asked for.
        let mut gradients = (output * gradient).sum().backward();
        let (mut copies, mut transaction) = (Vec::new(), Transaction::default());
        for (tap, form) in self.0 {
            let Some(gradient) = tap.grad_remove(&mut gradients) else {
                // The loss does not depend on this layer: its gradients are zeros.
                continue;
            };
            for (slot, gradient) in form(gradient) {
                let copied;
                (copied, transaction) = gradient.register(sink.sums(), transaction);
                copies.push((slot, copied));
            }
        }
        let data = transaction
            .try_execute()
            .map_err(DeviceError::computation)?;
        // All on the host before the first is added: a failure leaves the sink as it was.
        let data: Result<Vec<_>, _> = data.into_iter().map(to_host).collect();
        let mut data = data?.into_iter();
        let mut next = || data.next().unwrap_or_default();
        for (slot, copied) in copies {
            let mut rows = next();
            match copied {
                Copied::Rows if sink.sums() => sink.take_rows(weights, slot, rows),
                Copied::Rows => {
                    rows.truncate(rows.len() / filled * examples);
                    sink.take_rows(weights, slot, rows);
                }
                Copied::Outer => {
                    let mut right = next();
                    rows.truncate(rows.len() / filled * examples);
                    right.truncate(right.len() / filled * examples);
                    sink.take_outer(weights, slot, examples, rows, &right);
                }
                Copied::Tokens { layer, tokens } => {
                    let mut rows = layer.by_token(&tokens, &rows, filled);
                    rows.truncate(examples);
                    sink.take_some(weights, slot, rows);
                }
            }
        }
        Ok(())
    }
}

impl Gradient {
    /// Notes for copying what `summed` or apart gradients need.
    fn register(self, summed: bool, transaction: Transaction) -> (Copied, Transaction) {
        let rows = match self {
            Self::Rows(each) if summed => each.sum_dim(0),
            Self::Rows(each) => each,
            Self::Product { left, right } if summed => {
                let (left, right) = (left.flatten::<2>(0, 1), right.flatten::<2>(0, 1));
                left.transpose().matmul(right)
            }
            Self::Product { left, right } if left.dims()[1] == 1 => {
                return (Copied::Outer, transaction.register(left).register(right));
            }
            Self::Product { left, right } => left.swap_dims(1, 2).matmul(right).flatten(1, 2),
            Self::Tokens {
                layer,
                tokens,
                rows,
            } => {
                let copied = Copied::Tokens { layer, tokens };
                return (copied, transaction.register(rows));
            }
        };
        (Copied::Rows, transaction.register(rows))
    }
}

/// A tensor's numbers, row by row.
pub(super) fn to_host(data: TensorData) -> Result<Vec<f32>, DeviceError> {
    data.try_into_vec::<f32>().map_err(DeviceError::computation)
}
