//! Networks by name, and their gradients, apart per example or summed.
//!
//! A network is a list of layers over one flat vector of weights. Each layer has one forward pass
//! for inference and training (`tape.rs` says how); nothing in a network's file speaks of privacy.
//! **No layer mixes examples**: what one example contributes depends on that example and the
//! weights alone, which is what clipping per patient rests on. A test holds every network to it,
//! bit for bit, and devices are checked before they are used (`device.rs`).

mod activation;
mod attention;
mod batch;
pub(crate) mod bert;
mod blueprint;
mod chain;
mod cnn;
mod cnn_small;
mod convolution;
mod counts;
mod dense;
mod device;
mod embedding;
mod explain;
mod gradients;
mod group_norm;
mod heads;
mod kernels;
mod layer_norm;
mod lengths;
mod loss;
mod norms;
mod onnx;
#[cfg(test)]
mod oracle;
mod perceptron;
mod pooling;
mod positions;
mod resnet_gn;
mod scatter_cnn;
mod scattering;
mod tagging;
mod tape;
mod taps;
mod text;
mod weights;

use std::{ops::Range, sync::OnceLock};

use consilium_proto::{
    Layout, OutOfRange, ParameterVector, Plan,
    plan::{self, Task, TextInput},
};

use self::bert::{BertEncoder, BertSizes};
use self::blueprint::{Blueprint, Initial};
use self::counts::Counts;
use self::device::Places;
use self::gradients::Sink;
use self::heads::{Classifier, Encoder, PairClassifier, Tagger};
use self::loss::Objective;
use self::tagging::Tagging;
use self::tape::{Tape, Value};
use self::text::TextEncoder;
pub use self::{
    batch::{Batch, Target},
    device::{Device, DeviceError, NoDevice, Road, Tested, Wish},
    explain::Heat,
    gradients::PerExample,
    onnx::OnnxError,
    tagging::most_probable_tags,
    text::TextSizes,
    weights::Weights,
};
use crate::{
    profile::{Part, Profile, Watch},
    random::Random,
    text::alphabet::Alphabet,
};

/// Floats that one microbatch may hold for its layers: 128 MB a thread.
const FLOATS: usize = 32 << 20;

/// Floats that weight gradients written out for each example of a microbatch may take, on the CPU: 4 MB a
/// thread, which stay in cache until they are summed.
const FORMED: usize = 1 << 20;

/// Most examples of a microbatch. Convolutions take one image at a time; dense layers read their weights
/// once for all, and more examples would gain them little.
const MICROBATCH: usize = 16;

/// Most examples of a microbatch on a device, which computes them side by side.
const DEVICE_MICROBATCH: usize = 32;

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
    /// The device that was chosen.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What a device has done for a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceUse {
    /// Which one.
    pub device: Device,
    /// Microbatches it has computed.
    pub microbatches: u64,
    /// Most examples that it computes at once.
    pub largest: usize,
    /// Whether those are fewer than fit into memory by our own count: it failed with more.
    pub is_reduced: bool,
}

/// Forward pass of one network: a list of layers, in order.
trait Architecture: Send + Sync {
    /// Scores every class, or estimates the value, for each example.
    ///
    /// # Shapes
    /// - `input`: `[examples][numbers]`
    /// - output: `[examples][outputs]`, logits or values
    fn forward(&self, input: Value, tape: &mut Tape) -> Value;
}

/// What a network computes with.
enum Body {
    Layers(Box<dyn Architecture>),
    Counts(Counts),
}

/// A network as a plan describes it. Holds no weights.
pub struct Network {
    body: Body,
    layout: Layout,
    initials: Vec<Initial>,
    floats: usize,
    formed: usize,
    inputs: usize,
    objective: Objective,
    recomputes: bool,
    profile: Option<Profile>,
    places: Option<Places>,
    /// Whether its devices have passed [`check`](Self::check).
    is_checked: OnceLock<()>,
}

impl Network {
    /// Builds the network that a plan names.
    ///
    /// # Errors
    /// A network that does not fit its input, or has too many parameters.
    pub fn from_plan(plan: &Plan) -> Result<Self, NetworkError> {
        let mut blueprint = Blueprint::default();
        let outputs = plan.outputs();
        let objective = Objective::new(plan.training.loss(plan.task), outputs);
        if let Some(counts) = Counts::from_plan(&mut blueprint, plan) {
            let inputs = counts.inputs();
            return Self::new(Body::Counts(counts), blueprint, inputs, objective);
        }
        if let Some(text) = plan.text.as_ref().filter(|_| plan.reads_windows()) {
            return Self::of_words(blueprint, plan, text);
        }
        let on = &mut blueprint;
        let name = plan.network.name();
        let image = plan.image.as_ref();
        let shape = image.map(|image| [image.channels, image.height, image.width]);
        let (architecture, inputs): (Box<dyn Architecture>, usize) = match (&plan.network, shape) {
            (plan::Network::Dense { hidden }, None) => {
                let inputs = match (&plan.table, &plan.text) {
                    (Some(table), _) => table.columns.len(),
                    (None, Some(TextInput::Bag { buckets, .. })) => *buckets,
                    (None, Some(TextInput::Encoder { width, .. })) => *width,
                    (None, _) => 0,
                };
                if inputs == 0 {
                    return Err(NetworkError::Input(name));
                }
                let network = perceptron::Perceptron::new(on, inputs, hidden, outputs);
                (Box::new(network), inputs)
            }
            (network, Some(shape)) => {
                let architecture: Box<dyn Architecture> = match *network {
                    plan::Network::CnnSmall => {
                        Box::new(cnn_small::CnnSmall::new(on, shape, outputs))
                    }
                    plan::Network::Cnn => Box::new(cnn::Cnn::new(on, shape, outputs)),
                    plan::Network::ScatterCnn => {
                        Box::new(scatter_cnn::ScatterCnn::new(on, shape, outputs))
                    }
                    plan::Network::ResnetGn { width, depth } => {
                        let sizes = resnet_gn::Sizes { width, depth };
                        Box::new(resnet_gn::ResnetGn::new(on, shape, sizes, outputs))
                    }
                    _ => return Err(NetworkError::Input(name)),
                };
                (architecture, shape.iter().product())
            }
            _ => return Err(NetworkError::Input(name)),
        };
        Self::new(Body::Layers(architecture), blueprint, inputs, objective)
    }

    /// What reads windows of words.
    fn of_words(
        mut blueprint: Blueprint,
        plan: &Plan,
        text: &TextInput,
    ) -> Result<Self, NetworkError> {
        let Alphabet {
            tokens,
            slots,
            window,
            markers,
        } = Alphabet::of(text);
        let on = &mut blueprint;
        match (&plan.network, text) {
            (
                &plan::Network::Text {
                    features,
                    heads,
                    hidden,
                    blocks,
                    reach,
                },
                _,
            ) => {
                let sizes = TextSizes {
                    tokens,
                    positions: window,
                    slots,
                    is_padded: true,
                    features,
                    reach,
                    heads,
                    hidden,
                    blocks,
                };
                let encoder = TextEncoder::new(on, sizes);
                Self::of_task(blueprint, plan, encoder, slots, markers)
            }
            (
                &plan::Network::Bert {
                    layers,
                    heads,
                    hidden,
                    vocabulary,
                },
                &TextInput::Encoder { width, .. },
            ) => {
                let sizes = BertSizes {
                    vocabulary,
                    positions: window,
                    features: width,
                    heads,
                    hidden,
                    layers,
                };
                let encoder = BertEncoder::new(on, sizes);
                Self::of_task(blueprint, plan, encoder, slots, markers)
            }
            (plan::Network::Chain, _) if plan.task == Task::EntityTagging => {
                let tagging = Tagging {
                    words: window,
                    slots,
                    tags: plan.outputs(),
                };
                let body = Body::Layers(Box::new(chain::Chain::new(on, tokens, tagging)));
                Self::new(body, blueprint, tagging.inputs(), Objective::Tags(tagging))
            }
            (network, _) => Err(NetworkError::Input(network.name())),
        }
    }

    /// A text encoder with what the plan's task asks of it on top.
    fn of_task(
        mut blueprint: Blueprint,
        plan: &Plan,
        encoder: impl Encoder + 'static,
        slots: usize,
        markers: [usize; 2],
    ) -> Result<Self, NetworkError> {
        let (on, outputs) = (&mut blueprint, plan.outputs());
        let [words, _] = encoder.shape();
        let (architecture, objective): (Box<dyn Architecture>, _) = match plan.task {
            Task::EntityTagging => {
                let tagging = Tagging {
                    words,
                    slots,
                    tags: outputs,
                };
                let network = Tagger::new(on, encoder, tagging);
                (Box::new(network), Objective::Tags(tagging))
            }
            Task::RelationExtraction => {
                let network = PairClassifier::new(on, encoder, slots, markers, outputs);
                (Box::new(network), Objective::Classes(outputs))
            }
            _ => {
                let network = Classifier::new(on, encoder, outputs);
                (Box::new(network), Objective::Classes(outputs))
            }
        };
        let inputs = words * slots;
        Self::new(Body::Layers(architecture), blueprint, inputs, objective)
    }

    /// The text encoder with a mean over positions and one dense layer on top: classifies documents.
    ///
    /// # Errors
    /// More parameters than a layout may have.
    pub fn text_classifier(sizes: TextSizes, classes: usize) -> Result<Self, NetworkError> {
        let mut blueprint = Blueprint::default();
        let encoder = TextEncoder::new(&mut blueprint, sizes);
        let network = Classifier::new(&mut blueprint, encoder, classes);
        let inputs = sizes.positions * sizes.slots;
        let body = Body::Layers(Box::new(network));
        Self::new(body, blueprint, inputs, Objective::Classes(classes))
    }

    fn new(
        body: Body,
        blueprint: Blueprint,
        inputs: usize,
        objective: Objective,
    ) -> Result<Self, NetworkError> {
        let Blueprint {
            tensors,
            initials,
            floats,
            formed,
        } = blueprint;
        let layout = Layout::new(tensors).map_err(NetworkError::Layout)?;
        Ok(Self {
            body,
            layout,
            initials,
            floats,
            formed,
            inputs,
            objective,
            recomputes: false,
            profile: None,
            places: None,
            is_checked: OnceLock::new(),
        })
    }

    /// The same network on devices, each of which computes microbatches; without this call, or without a device
    /// beside the CPU, it computes on the CPU.
    ///
    /// # Errors
    /// A device that this build or this machine does not have.
    pub fn on(self, devices: &[Device]) -> Result<Self, NetworkError> {
        let places = match self.body {
            Body::Layers(_) => Places::open(devices, self.fitting(DEVICE_MICROBATCH))?,
            // Nothing to compute side by side.
            Body::Counts(_) => None,
        };
        Ok(Self {
            places,
            is_checked: OnceLock::new(),
            ..self
        })
    }

    /// The same network, which computes parts of its forward pass again on the way back instead of keeping what
    /// they left: less memory, more time. Gradients have the same bits, so that a round may be repeated either
    /// way.
    pub fn recomputing(self, recomputes: bool) -> Self {
        Self { recomputes, ..self }
    }

    /// The same network, which notes where time goes.
    pub fn profiled(self, is_profiled: bool) -> Self {
        Self {
            profile: is_profiled.then(Profile::default),
            ..self
        }
    }

    /// Where time went, if that is noted.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// Names, order and shapes of its weights.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Numbers that make one example.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Numbers it gives for one example: one a class, one a tag for each word, or one value.
    pub fn outputs(&self) -> usize {
        self.objective.outputs()
    }

    /// Numbers among which one is chosen: classes, or tags of a word.
    pub fn choices(&self) -> usize {
        match self.objective {
            Objective::Classes(classes) => classes,
            Objective::Tags(Tagging { tags, .. }) => tags,
            Objective::Value => 1,
        }
    }

    /// Where it computes, and what each device has done so far.
    pub fn devices(&self) -> Vec<DeviceUse> {
        let places = self.places.iter().flat_map(Places::all);
        places
            .map(|place| DeviceUse {
                device: place.device(),
                microbatches: place.computed(),
                largest: place.most().get(),
                is_reduced: place.most().get() < self.fitting(DEVICE_MICROBATCH),
            })
            .collect()
    }

    /// Whether it computes on kernels of our own.
    pub fn is_on_cpu(&self) -> bool {
        self.places.is_none()
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
    /// A vector of another length than the layout's, a device that fails.
    pub fn weights(&self, values: &[f32]) -> Result<Weights, NetworkError> {
        let expected = self.layout.parameters();
        if values.len() != expected {
            return Err(NetworkError::WeightCount {
                expected,
                found: values.len(),
            });
        }
        let weights = Weights::new(&self.layout, values);
        match &self.places {
            Some(places) => device::contained(|| Ok(weights.on(places.all()))),
            None => Ok(weights),
        }
    }

    /// Most examples of a microbatch.
    pub fn microbatch(&self) -> usize {
        match &self.places {
            Some(places) => places.most(),
            None => self
                .fitting(MICROBATCH)
                .min((FORMED / self.formed.max(1)).max(1)),
        }
    }

    /// As many examples as fit into memory, at most so many.
    fn fitting(&self, most: usize) -> usize {
        (FLOATS / self.floats.max(1)).clamp(1, most)
    }

    /// The gradient of each example, kept apart. What one example's is depends on no other, on the CPU to
    /// the last bit.
    ///
    /// # Errors
    /// A device that fails.
    pub fn per_example(
        &self,
        weights: &Weights,
        batch: &Batch,
    ) -> Result<PerExample, NetworkError> {
        let pieces = self.compute(weights, batch.len(), |weights, examples| {
            self.gradients_of(weights, &batch.part(examples))
        });
        Ok(PerExample::joined(pieces?, weights.count()))
    }

    /// Leaves of a gradient what may move in a round that starts at these weights: everything, but of counts
    /// only the level that is counted now. Noise is on all of them, and a level that holds some would count as
    /// done. What it does to a private gradient is done after the noise.
    pub(crate) fn confine(&self, weights: &[f32], gradient: &mut [f32]) {
        let Body::Counts(counts) = &self.body else {
            return;
        };
        let kept = counts.level(&Weights::new(&self.layout, weights));
        for (at, value) in gradient.iter_mut().enumerate() {
            if !kept.contains(&at) {
                *value = 0.0;
            }
        }
    }

    fn gradients_of(&self, weights: &Weights, batch: &Batch) -> Result<PerExample, NetworkError> {
        let architecture = match &self.body {
            Body::Layers(architecture) => architecture,
            Body::Counts(counts) => {
                let mut sink = Sink::apart(weights, batch.len());
                count(counts, weights, batch, &mut sink);
                return Ok(sink.into_apart());
            }
        };
        let mut tape = self.tape(weights, batch.len());
        let output = self.forward(architecture.as_ref(), &batch.inputs, &mut tape);
        let mut watch = Watch::of(self.profile());
        let (_, gradient) = self.losses(&output, batch)?;
        watch.note(Part::Loss);
        Ok(tape.apart(output, gradient)?)
    }

    /// Adds the gradient of the sum of the losses to `sum`.
    ///
    /// # Errors
    /// A device that fails. Then `sum` may hold some of the examples.
    ///
    /// # Panics
    /// Where `sum` is shorter than the layout: a mistake of the caller.
    pub fn add_gradient(
        &self,
        weights: &Weights,
        batch: &Batch,
        sum: &mut [f32],
    ) -> Result<(), NetworkError> {
        self.compute(weights, batch.len(), |weights, examples| {
            let batch = batch.part(examples);
            let architecture = match &self.body {
                Body::Layers(architecture) => architecture,
                Body::Counts(counts) => {
                    count(counts, weights, &batch, &mut Sink::Summed(sum));
                    return Ok(());
                }
            };
            let mut tape = self.tape(weights, batch.len());
            let output = self.forward(architecture.as_ref(), &batch.inputs, &mut tape);
            let mut watch = Watch::of(self.profile());
            let (_, gradient) = self.losses(&output, &batch)?;
            watch.note(Part::Loss);
            Ok(tape.summed(output, gradient, sum)?)
        })?;
        Ok(())
    }

    /// The probability of each class, of each tag of each word, or the value, for each example: `outputs`
    /// numbers each. Words past the last one of a window have zeros.
    /// `inputs` holds the examples one after the other.
    ///
    /// # Errors
    /// Numbers that do not make whole examples, a device that fails.
    pub fn predict(&self, weights: &Weights, inputs: &[f32]) -> Result<Vec<f32>, NetworkError> {
        let rest = inputs.len() % self.inputs;
        if rest != 0 {
            return Err(NetworkError::InputLength {
                expected: self.inputs,
                found: rest,
            });
        }
        let microbatches = inputs.chunks(self.microbatch() * self.inputs);
        let mut outputs = Vec::new();
        for inputs in microbatches {
            let examples = inputs.len() / self.inputs;
            let pieces = self.compute(weights, examples, |weights, Range { start, end }| {
                self.outputs_of(weights, &inputs[start * self.inputs..end * self.inputs])
            });
            outputs.extend(pieces?.concat());
        }
        Ok(outputs)
    }

    fn outputs_of(&self, weights: &Weights, inputs: &[f32]) -> Result<Vec<f32>, NetworkError> {
        let architecture = match &self.body {
            Body::Layers(architecture) => architecture,
            Body::Counts(counts) => return Ok(counts.predict(weights, inputs)),
        };
        let examples = inputs.len() / self.inputs;
        let mut tape = Tape::off(weights, examples);
        let output = self.forward(architecture.as_ref(), inputs, &mut tape);
        let mut scores = output.to_host()?;
        scores.truncate(examples * self.objective.scores());
        Ok(self.objective.predict(inputs, scores))
    }

    /// The loss of each example and its gradient at the outputs.
    fn losses(&self, output: &Value, batch: &Batch) -> Result<(Vec<f32>, Vec<f32>), DeviceError> {
        let mut scores = output.to_host()?;
        scores.truncate(batch.len() * self.objective.scores());
        Ok(self.objective.losses(&scores, &batch.targets))
    }

    /// For training.
    fn tape<'a>(&'a self, weights: &'a Weights, examples: usize) -> Tape<'a> {
        Tape::recording(weights, examples)
            .recomputing(self.recomputes)
            .watched(self.profile())
    }

    fn forward(&self, architecture: &dyn Architecture, inputs: &[f32], tape: &mut Tape) -> Value {
        let mut inputs = inputs.to_vec();
        inputs.resize(tape.examples * self.inputs, 0.0);
        let input = tape.input(inputs);
        let output = architecture.forward(input, tape);
        tape.note_device();
        output
    }

    /// An empty batch for this network.
    pub fn batch(&self) -> Batch {
        Batch::new(self.inputs, self.objective)
    }
}

/// Hands a sink what a batch adds to counts.
fn count(counts: &Counts, weights: &Weights, batch: &Batch, sink: &mut Sink) {
    let class = |target: &Target| match target {
        Target::Class(class) => *class,
        // Batches of a network of counts hold classes alone.
        Target::Value(_) | Target::Tags(_) => 0,
    };
    let classes: Vec<usize> = batch.targets.iter().map(class).collect();
    if let Some((slot, rows)) = counts.gradients(weights, &batch.inputs, &classes) {
        sink.take_some(weights, slot, rows);
    }
}

#[cfg(test)]
mod tests;
