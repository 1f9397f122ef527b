//! How one forward pass serves inference, ordinary training and private training.
//!
//! A layer with weights hands its output to the tape together with a *trace*: what it needs to
//! form its weight gradients later. A recording tape adds a tensor of zeros to the output, the
//! *tap*, whose gradient is the gradient of the loss at that output. One backward pass gives the
//! gradients at all taps; weights themselves are constants of that pass. As the losses are added
//! up and no layer mixes examples, row i of a tap's gradient belongs to example i alone, so the
//! trace can form each example's weight gradient, or their sum, from rows of input and tap.

use burn::tensor::{Device, Gradients, Tensor};

use super::{blueprint::Slot, per_example::Part};

/// Keeps what a layer needs to form its weight gradients, when asked to.
pub(super) struct Tape {
    recording: Option<Recording>,
}

struct Recording {
    device: Device,
    traces: Vec<Box<dyn Trace>>,
}

/// What a layer recorded: its input, its tap, and how the two make weight gradients.
pub(super) trait Trace {
    /// The gradient of each example for each tensor of the layer.
    fn apart(&self, gradients: &mut Gradients) -> Vec<(Slot, Part)>;

    /// The gradient of the sum of all losses for each tensor of the layer.
    fn summed(&self, gradients: &mut Gradients) -> Vec<(Slot, Vec<f32>)>;
}

/// Zeros that were added to a layer's output.
pub(super) struct Tap<const D: usize>(Tensor<D>);

impl Tape {
    /// For inference: layers run without a trace.
    pub(super) fn off() -> Self {
        Self { recording: None }
    }

    /// For training on a device.
    pub(super) fn recording(device: &Device) -> Self {
        let device = device.clone().autodiff();
        Self {
            recording: Some(Recording {
                device,
                traces: Vec::new(),
            }),
        }
    }

    /// Gives a layer's output back, with a tap when recording.
    pub(super) fn record<const D: usize, T: Trace + 'static>(
        &mut self,
        output: Tensor<D>,
        trace: impl FnOnce(Tap<D>) -> T,
    ) -> Tensor<D> {
        let Some(recording) = &mut self.recording else {
            return output;
        };
        let tap = Tensor::zeros(output.dims(), &recording.device).require_grad();
        recording.traces.push(Box::new(trace(Tap(tap.clone()))));
        output + tap
    }

    /// Runs backward and forms the gradient of each example.
    pub(super) fn finish_apart(self, losses: Tensor<1>) -> Vec<(Slot, Part)> {
        self.finish(losses, |trace, gradients| trace.apart(gradients))
    }

    /// Runs backward and forms the gradient of the sum of the losses.
    pub(super) fn finish_summed(self, losses: Tensor<1>) -> Vec<(Slot, Vec<f32>)> {
        self.finish(losses, |trace, gradients| trace.summed(gradients))
    }

    fn finish<T>(
        self,
        losses: Tensor<1>,
        form: impl Fn(&dyn Trace, &mut Gradients) -> Vec<T>,
    ) -> Vec<T> {
        let traces = self
            .recording
            .map(|recording| recording.traces)
            .unwrap_or_default();
        if traces.is_empty() {
            return Vec::new();
        }
        let mut gradients = losses.sum().backward();
        traces
            .into_iter()
            .flat_map(|trace| form(&*trace, &mut gradients))
            .collect()
    }
}

impl<const D: usize> Tap<D> {
    /// The gradient at the layer's output, zeros where the loss does not depend on it.
    pub(super) fn gradient(&self, gradients: &mut Gradients) -> Tensor<D> {
        let zeros = || self.0.clone().inner().zeros_like();
        self.0.grad_remove(gradients).unwrap_or_else(zeros)
    }
}
