mod clipping;
mod devices;

use std::cell::RefCell;

use proptest::{prelude::*, test_runner::RngSeed};

use super::{
    activation::relu,
    convolution::{Convolution, Window},
    dense::Dense,
    oracle::{Image, Reader, cross_entropy, scattered},
    pooling::average,
    *,
};

/// A plan for a network: its table, an image shape or a number of columns, and its classes.
fn plan(network: &str, image: Option<[usize; 3]>, columns: usize, classes: usize) -> Plan {
    let task = match (classes, image) {
        (0, _) => "image-regression",
        (_, Some(_)) => "image-classification",
        (_, None) => "tabular-classification",
    };
    let classes: Vec<_> = (0..classes).map(|class| format!("\"{class}\"")).collect();
    let input = match image {
        Some([channels, height, width]) => {
            format!("[image]\nchannels = {channels}\nheight = {height}\nwidth = {width}")
        }
        None => (0..columns)
            .map(|at| format!("[[table.columns]]\nname = \"{at}\"\n"))
            .collect(),
    };
    let text = format!(
        "name = \"test\"\ntask = \"{task}\"\ndata_set = \"d\"\nrounds = 1\n\
         classes = [{}]\n[cohort]\nsize = 3\n{input}\n[network]\n{network}\n\
         [training]\nsteps = 1\nbatch_size = 1\nlearning_rate = 0.1\n[privacy]\nmode = \"none\"\n",
        classes.join(", ")
    );
    Plan::from_toml(&text).expect("a sound plan")
}

/// Answers of the oracle for weights and one input.
type Forward = dyn Fn(&[f64], &[f64]) -> Vec<f64>;

/// Small instances of every network, with the oracle that computes the same.
struct Case {
    name: &'static str,
    network: Network,
    oracle: Oracle,
}

/// What the oracle of a network answers.
enum Oracle {
    /// The outputs, from weights and an input.
    Outputs(Box<Forward>),
    /// The loss of a window's tags, from sizes, weights and an input.
    Tags(TextSizes),
    /// The same without hidden layers.
    Chain(TextSizes),
}

/// Proptest prints what failed.
impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tensors = self.network.layout().tensors();
        write!(
            f,
            "{} of {} numbers, {tensors:?}",
            self.name,
            self.network.inputs()
        )
    }
}

fn case(
    name: &'static str,
    plan: &Plan,
    forward: impl Fn(&[f64], &[f64]) -> Vec<f64> + 'static,
) -> Case {
    let network = Network::from_plan(plan).expect("a network");
    Case {
        name,
        network,
        oracle: Oracle::Outputs(Box::new(forward)),
    }
}

fn image_case(
    name: &'static str,
    text: &str,
    shape: [usize; 3],
    classes: usize,
    forward: impl Fn(&mut Reader, &Image) -> Vec<f64> + 'static,
) -> Case {
    case(
        name,
        &plan(text, Some(shape), 0, classes),
        move |weights, input| {
            forward(
                &mut Reader::new(weights),
                &Image::new(shape, input.to_vec()),
            )
        },
    )
}

fn cases() -> Vec<Case> {
    let resnet = |width: usize, depth: usize| {
        format!("name = \"resnet-gn\"\nwidth = {width}\ndepth = {depth}")
    };
    vec![
        image_case(
            "cnn-small",
            "name = \"cnn-small\"",
            [1, 28, 28],
            2,
            |reader, image| reader.cnn_small(image, 2),
        ),
        image_case("cnn", "name = \"cnn\"", [3, 10, 13], 3, |reader, image| {
            reader.cnn(image, 3)
        }),
        image_case("resnet", &resnet(8, 2), [1, 8, 9], 2, |reader, image| {
            reader.resnet_gn(image, [8, 2], 2)
        }),
        image_case(
            "large resnet",
            &resnet(4, 1),
            [3, 48, 49],
            2,
            |reader, image| reader.resnet_gn(image, [4, 1], 2),
        ),
        image_case(
            "deep resnet",
            &resnet(4, 3),
            [1, 9, 8],
            4,
            |reader, image| reader.resnet_gn(image, [4, 3], 4),
        ),
        image_case(
            "regression",
            &resnet(4, 1),
            [1, 8, 8],
            0,
            |reader, image| reader.resnet_gn(image, [4, 1], 1),
        ),
        case(
            "dense",
            &plan("name = \"dense\"\nhidden = [5, 4]", None, 6, 3),
            |weights, input| Reader::new(weights).perceptron(input, &[5, 4], 3),
        ),
        case(
            "linear",
            &plan("name = \"dense\"\nhidden = []", None, 4, 2),
            |weights, input| Reader::new(weights).perceptron(input, &[], 2),
        ),
        scatter_case([3, 13, 9]),
        text_case(SIZES),
        text_case(WORDS),
        pair_case(),
        bert_case(BERT),
        tagging_case(),
        chain_case(),
    ]
}

const SIZES: TextSizes = TextSizes {
    tokens: 11,
    positions: 7,
    slots: 1,
    is_padded: false,
    features: 8,
    reach: 0,
    heads: 2,
    hidden: 12,
    blocks: 2,
};

/// Several numbers a word, seen with its neighbours, and windows that end early.
const WORDS: TextSizes = TextSizes {
    slots: 2,
    is_padded: true,
    reach: 1,
    blocks: 1,
    ..SIZES
};

/// Positions that are learnt, and norms behind the sums.
const BERT: BertSizes = BertSizes {
    vocabulary: 11,
    positions: 7,
    features: 8,
    heads: 2,
    hidden: 12,
    layers: 2,
};

fn bert_case(sizes: BertSizes) -> Case {
    let mut on = Blueprint::default();
    let encoder = BertEncoder::new(&mut on, sizes);
    let network = Classifier::new(&mut on, encoder, 3);
    let forward = move |weights: &[f64], input: &[f64]| Reader::new(weights).bert(input, sizes, 3);
    Case {
        name: "pieces",
        network: layers(
            Box::new(network),
            on,
            sizes.positions,
            Objective::Classes(3),
        ),
        oracle: Oracle::Outputs(Box::new(forward)),
    }
}

fn pair_case() -> Case {
    let mut on = Blueprint::default();
    let encoder = TextEncoder::new(&mut on, WORDS);
    let network = PairClassifier::new(&mut on, encoder, WORDS.slots, [1, 2], 3);
    let inputs = WORDS.positions * WORDS.slots;
    let forward =
        |weights: &[f64], input: &[f64]| Reader::new(weights).pair(input, WORDS, [1, 2], 3);
    Case {
        name: "words in pairs",
        network: layers(Box::new(network), on, inputs, Objective::Classes(3)),
        oracle: Oracle::Outputs(Box::new(forward)),
    }
}

fn tagging_case() -> Case {
    let mut on = Blueprint::default();
    let tagging = Tagging {
        words: WORDS.positions,
        slots: WORDS.slots,
        tags: 3,
    };
    let encoder = TextEncoder::new(&mut on, WORDS);
    let network = Tagger::new(&mut on, encoder, tagging);
    let objective = Objective::Tags(tagging);
    Case {
        name: "words with tags",
        network: layers(Box::new(network), on, tagging.inputs(), objective),
        oracle: Oracle::Tags(WORDS),
    }
}

fn chain_case() -> Case {
    let mut on = Blueprint::default();
    let tagging = Tagging {
        words: WORDS.positions,
        slots: WORDS.slots,
        tags: 3,
    };
    let network = chain::Chain::new(&mut on, WORDS.tokens, tagging);
    let objective = Objective::Tags(tagging);
    Case {
        name: "words in a chain",
        network: layers(Box::new(network), on, tagging.inputs(), objective),
        oracle: Oracle::Chain(WORDS),
    }
}

fn layers(
    architecture: Box<dyn Architecture>,
    on: Blueprint,
    inputs: usize,
    objective: Objective,
) -> Network {
    Network::new(Body::Layers(architecture), on, inputs, objective).expect("a small network")
}

/// The oracle scatters an input once, however often its head is asked.
fn scatter_case(shape: [usize; 3]) -> Case {
    let plan = plan("name = \"scatter-cnn\"", Some(shape), 0, 3);
    let last = RefCell::new((Vec::new(), Image::new([0; 3], Vec::new())));
    case("scatter-cnn", &plan, move |weights, input| {
        let mut last = last.borrow_mut();
        if last.0 != input {
            *last = (
                input.to_vec(),
                scattered(&Image::new(shape, input.to_vec())),
            );
        }
        Reader::new(weights).scatter_cnn(&last.1, 3)
    })
}

fn text_case(sizes: TextSizes) -> Case {
    let forward = move |weights: &[f64], input: &[f64]| Reader::new(weights).text(input, sizes, 3);
    Case {
        name: if sizes.is_padded { "words" } else { "text" },
        network: Network::text_classifier(sizes, 3).expect("a small network"),
        oracle: Oracle::Outputs(Box::new(forward)),
    }
}

impl Case {
    /// Weights that leave no tensor at a special value.
    fn weights(&self) -> Vec<f32> {
        let mut random = Random::new(&[11]);
        let mut values = self.network.initial(5).into_vec();
        values
            .iter_mut()
            .for_each(|value| *value += random.symmetric(0.05));
        values
    }

    fn input(&self, seed: u64) -> Vec<f32> {
        let mut random = Random::new(&[23, seed]);
        if self.is_padded() {
            // As many words as the target has tags.
            let mut input = vec![0.0; self.network.inputs()];
            let words = &mut input[..self.words(seed as usize) * self.slots()];
            words
                .iter_mut()
                .for_each(|number| *number = (random.bits() % 10 + 1) as f32);
            return input;
        }
        let mut number = || match self.name {
            "text" => (random.bits() % 11) as f32,
            _ => random.symmetric(1.5),
        };
        (0..self.network.inputs()).map(|_| number()).collect()
    }

    fn architecture(&self) -> &dyn Architecture {
        match &self.network.body {
            Body::Layers(architecture) => architecture.as_ref(),
            Body::Counts(_) => unreachable!("a network of layers"),
        }
    }

    /// Whether windows may end early.
    fn is_padded(&self) -> bool {
        self.name.starts_with("words") || self.name == "pieces"
    }

    /// Whether every number is a token, what is none the first one.
    fn reads_tokens(&self) -> bool {
        self.name == "text" || self.is_padded()
    }

    fn slots(&self) -> usize {
        match self.name {
            "pieces" => 1,
            _ => WORDS.slots,
        }
    }

    fn words(&self, seed: usize) -> usize {
        1 + seed % (self.network.inputs() / self.slots())
    }

    fn target(&self, seed: usize) -> Target {
        self.network.objective.example(seed)
    }

    fn batch(&self, seeds: &[usize]) -> Batch {
        let mut batch = self.network.batch();
        for &seed in seeds {
            batch
                .push(&self.input(seed as u64), self.target(seed))
                .expect("a sound example");
        }
        batch
    }

    fn gradients(&self, batch: &Batch) -> Vec<Vec<f32>> {
        let weights = self
            .network
            .weights(&self.weights())
            .expect("as long as the layout");
        let apart = self.network.per_example(&weights, batch);
        let apart = apart.expect("gradients");
        let row = |example| {
            let mut gradient = vec![f32::NAN; apart.parameters()];
            apart.write(example, &mut gradient);
            gradient
        };
        (0..batch.len()).map(row).collect()
    }

    fn oracle_loss(&self, weights: &[f64], seed: usize) -> f64 {
        let input: Vec<f64> = self.input(seed as u64).into_iter().map(f64::from).collect();
        let target = self.target(seed);
        let outputs = match (&self.oracle, &target) {
            (Oracle::Outputs(forward), _) => forward(weights, &input),
            (Oracle::Tags(sizes), Target::Tags(tags)) => {
                return Reader::new(weights).tags(&input, *sizes, 3, tags);
            }
            (Oracle::Chain(sizes), Target::Tags(tags)) => {
                return Reader::new(weights).chain(&input, *sizes, 3, tags);
            }
            _ => unreachable!("the network tags"),
        };
        match target {
            Target::Class(class) => cross_entropy(&outputs, class),
            Target::Value(value) => (outputs[0] - f64::from(value)).powi(2),
            Target::Tags(_) => unreachable!("the network classifies"),
        }
    }
}

#[test]
fn gradients_of_single_examples_agree_with_differences_of_the_loss_in_f64() {
    for case in cases() {
        let weights: Vec<f64> = case.weights().into_iter().map(f64::from).collect();
        let seeds = [1, 2, 3];
        let gradients = case.gradients(&case.batch(&seeds));
        let mut random = Random::new(&[3]);
        for (gradient, &seed) in gradients.iter().zip(&seeds) {
            for (tensor, range) in case.network.layout().ranges() {
                let largest = gradient[range.clone()]
                    .iter()
                    .fold(0.0_f32, |a, b| a.max(b.abs()));
                // Every parameter of a small tensor, and a dozen of a large one.
                let some = (0..12).map(|_| range.start + random.bits() as usize % range.len());
                let all: Vec<_> = if range.len() <= 12 {
                    range.collect()
                } else {
                    some.collect()
                };
                for at in all {
                    let shifted = |step: f64| {
                        let mut weights = weights.clone();
                        weights[at] += step;
                        case.oracle_loss(&weights, seed)
                    };
                    let expected = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                    let found = f64::from(gradient[at]);
                    let allowed = 3e-4 * f64::from(largest) + 1e-7;
                    let place = format!("{} {} at {at}", case.name, tensor.name);
                    assert!(
                        (found - expected).abs() <= allowed,
                        "{place}: {found} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn losses_agree_with_the_oracle_with_tape_and_without() {
    for case in cases() {
        let values: Vec<f64> = case.weights().into_iter().map(f64::from).collect();
        let weights = case
            .network
            .weights(&case.weights())
            .expect("as long as the layout");
        let batch = case.batch(&[1, 2, 3, 4]);
        for mut tape in [Tape::off(&weights, 4), Tape::recording(&weights, 4)] {
            let output = case
                .network
                .forward(case.architecture(), &batch.inputs, &mut tape);
            let (losses, _) = case.network.losses(&output, &batch).expect("losses");
            for (loss, seed) in losses.into_iter().zip(1..) {
                let expected = case.oracle_loss(&values, seed);
                let allowed = 1e-5 * (1.0 + expected);
                assert!(
                    (f64::from(loss) - expected).abs() < allowed,
                    "{} {loss}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn the_plain_gradient_is_the_sum_of_the_gradients_of_the_examples() {
    for case in cases() {
        let batch = case.batch(&[4, 5, 6, 7, 8]);
        let weights = case
            .network
            .weights(&case.weights())
            .expect("as long as the layout");
        let mut plain = vec![0.0; case.network.layout().parameters()];
        let added = case.network.add_gradient(&weights, &batch, &mut plain);
        added.expect("a gradient");
        let gradients = case.gradients(&batch);
        let largest = plain.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        for (at, plain) in plain.iter().enumerate() {
            let sum: f32 = gradients.iter().map(|gradient| gradient[at]).sum();
            assert!(
                (sum - plain).abs() <= 1e-5 * largest,
                "{} {at}: {sum} {plain}",
                case.name
            );
        }
    }
}

/// A round trained with recomputation may be repeated without.
#[test]
fn recomputed_gradients_have_the_bits_of_kept_ones_apart_and_summed() {
    let scatter = plan("name = \"scatter-cnn\"", Some([1, 13, 12]), 0, 2);
    let scatter = case("scatter-cnn", &scatter, |_, _| unreachable!());
    for case in cases().into_iter().chain([scatter]) {
        let answers = |case: &Case| {
            let batch = case.batch(&[4, 5, 6]);
            let weights = case.network.weights(&case.weights()).expect("right length");
            let mut sum = vec![0.0; case.network.layout().parameters()];
            let added = case.network.add_gradient(&weights, &batch, &mut sum);
            added.expect("a gradient");
            let all = case.gradients(&batch).into_iter().chain([sum]);
            all.flatten().map(f32::to_bits).collect::<Vec<_>>()
        };
        let kept = answers(&case);
        let network = case.network.recomputing(true);
        assert_eq!(answers(&Case { network, ..case }), kept);
    }
}

/// What clipping rests on: adding or removing one patient changes one summand of the step's sum
/// and leaves all others the same to the last bit.
#[test]
fn the_gradient_of_an_example_depends_on_no_other_example_bit_for_bit() {
    for case in cases() {
        let alone = |seeds: &[usize]| case.gradients(&case.batch(seeds));
        let first = alone(&[9]);
        let among = alone(&[1, 2, 9]);
        let other = alone(&[3, 4, 9, 5]);
        let bits = |gradient: &[f32]| gradient.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&first[0]), bits(&among[2]), "{}", case.name);
        assert_eq!(bits(&among[2]), bits(&other[2]), "{}", case.name);
        assert_ne!(bits(&among[0]), bits(&other[0]), "{}", case.name);
    }
}

#[test]
fn an_example_that_is_not_a_number_spoils_no_other() {
    for case in cases().into_iter().filter(|case| !case.reads_tokens()) {
        let mut batch = case.batch(&[1]);
        batch
            .push(&vec![f32::NAN; case.network.inputs()], case.target(2))
            .expect("right length");
        batch
            .push(&case.input(3), case.target(3))
            .expect("a sound example");
        let gradients = case.gradients(&batch);
        let finite = |gradient: &[f32]| gradient.iter().all(|value| value.is_finite());
        assert!(
            finite(&gradients[0]) && finite(&gradients[2]),
            "{}",
            case.name
        );
        assert!(!finite(&gradients[1]), "{}", case.name);
    }
}

#[test]
fn sizes_are_those_of_the_reference_models() {
    let parameters = |text: &str, shape| {
        let network = Network::from_plan(&plan(text, Some(shape), 0, 2)).expect("a network");
        network.layout().parameters()
    };
    assert_eq!(parameters("name = \"cnn-small\"", [1, 28, 28]), 8_532);
    assert_eq!(parameters("name = \"cnn\"", [3, 128, 128]), 7_392_578);
    let resnet = "name = \"resnet-gn\"\nwidth = 32\ndepth = 3";
    assert_eq!(parameters(resnet, [1, 64, 64]), 307_042);
    let text = Network::text_classifier(TextSizes::default(), 10).expect("a network");
    assert_eq!(text.layout().parameters(), 1_446_666);
}

/// Sites recompute these bytes from the plan's seed and refuse a difference: a change here breaks
/// every study under way.
#[test]
fn initial_weights_are_the_same_bytes_on_every_machine() {
    let frozen = [
        ("cnn-small", "90c311811aeb0e71"),
        ("cnn", "4dfe1b9c746b3588"),
        ("resnet", "ac49ecdbcc7d2a7d"),
        ("large resnet", "09dce0f712907b68"),
        ("deep resnet", "fcbc4e8172ebc3ac"),
        ("regression", "18da8a96712b8c1f"),
        ("dense", "4aff6c6145d802ab"),
        ("linear", "001ba162644ac68f"),
        ("scatter-cnn", "07e53f4c409aa5a8"),
    ];
    for (case, (name, start)) in cases().into_iter().zip(frozen) {
        let digest = case
            .network
            .initial(42)
            .digest(case.network.layout())
            .to_string();
        assert_eq!((case.name, &digest[..16]), (name, start));
    }
}

#[test]
fn initial_weights_keep_the_scale_of_activations() {
    let network = Network::from_plan(&plan("name = \"cnn\"", Some([1, 28, 28]), 0, 2));
    let network = network.expect("a network");
    let weights = network.initial(1).into_vec();
    assert_ne!(weights, network.initial(2).into_vec());
    let (_, range) = network.layout().ranges().nth(2).expect("conv2.weight");
    let variance = weights[range.clone()]
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        / range.len() as f64;
    let expected = 2.0 / (32.0 * 9.0);
    assert!((variance / expected - 1.0).abs() < 0.05, "{variance}");
}

#[test]
fn what_does_not_fit_the_network_is_refused() {
    let case = &cases()[0];
    let mut batch = case.network.batch();
    assert!(batch.push(&[0.0; 3], Target::Class(0)).is_err());
    assert!(batch.push(&case.input(1), Target::Class(2)).is_err());
    assert!(batch.push(&case.input(1), Target::Value(0.0)).is_err());
    assert!(batch.is_empty());
    assert!(case.network.weights(&[0.0; 5]).is_err());
    let weights = case
        .network
        .weights(&case.weights())
        .expect("as long as the layout");
    assert!(case.network.predict(&weights, &[0.0; 785]).is_err());
}

#[test]
fn probabilities_of_an_example_add_up_to_one() {
    let case = &cases()[1];
    let weights = case
        .network
        .weights(&case.weights())
        .expect("as long as the layout");
    let inputs = [case.input(1), case.input(2)].concat();
    let probabilities = case
        .network
        .predict(&weights, &inputs)
        .expect("two examples");
    assert_eq!(probabilities.len(), 6);
    for row in probabilities.chunks(3) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
    }
}

/// One convolution of any kind, a ReLU, the means of channels, dense outputs.
struct OneConvolution {
    conv: Convolution,
    plane: usize,
    dense: Dense,
}

impl Architecture for OneConvolution {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let x = relu(self.conv.forward(input, tape), tape);
        let x = average(x, self.plane, tape);
        self.dense.forward(x, tape)
    }
}

fn any_convolution() -> impl Strategy<Value = Case> {
    let channels = (1_usize..4, 1_usize..4, 1_usize..3);
    let window = (1_usize..4, 1_usize..3, 0_usize..3, 1_usize..3);
    let size = (5_usize..20, 5_usize..20);
    (channels, window, size).prop_map(|((inputs, outputs, groups), window, (height, width))| {
        let (kernel, stride, padding, dilation) = window;
        let window = Window {
            kernel,
            stride,
            padding,
            dilation,
        };
        let (input, channels) = ([inputs * groups, height, width], outputs * groups);
        let mut on = Blueprint::default();
        let (conv, shape) = Convolution::grouped(&mut on, "conv", input, channels, window, groups);
        let dense = Dense::last(&mut on, "fc", channels, 2);
        let plane = shape[1] * shape[2];
        let inputs = input.iter().product();
        let network = Box::new(OneConvolution { conv, plane, dense });
        let forward = move |weights: &[f64], values: &[f64]| {
            let image = Image::new(input, values.to_vec());
            let size = [kernel, stride, padding];
            Reader::new(weights).one_convolution(&image, channels, size, [dilation, groups], 2)
        };
        Case {
            name: "one convolution",
            network: layers(network, on, inputs, Objective::Classes(2)),
            oracle: Oracle::Outputs(Box::new(forward)),
        }
    })
}

fn any_text() -> impl Strategy<Value = Case> {
    // A norm over two or four features is close to a sign: no differences could be taken.
    let sizes = (1_usize..12, 1_usize..3, 0_u32..3, 1_usize..20, 0_usize..3);
    let kinds = (any::<bool>(), 0_usize..3);
    (sizes, kinds).prop_map(
        |((positions, eights, doublings, hidden, blocks), (is_padded, reach))| {
            text_case(TextSizes {
                tokens: 11,
                positions,
                slots: if is_padded { WORDS.slots } else { 1 },
                is_padded,
                features: 8 * eights,
                reach,
                heads: 1 << doublings,
                hidden,
                blocks,
            })
        },
    )
}

fn any_bert() -> impl Strategy<Value = Case> {
    let sizes = (1_usize..12, 1_usize..3, 0_u32..3, 1_usize..20, 0_usize..3);
    sizes.prop_map(|(positions, eights, doublings, hidden, layers)| {
        bert_case(BertSizes {
            vocabulary: 11,
            positions,
            features: 8 * eights,
            heads: 1 << doublings,
            hidden,
            layers,
        })
    })
}

fn any_scattering() -> impl Strategy<Value = Case> {
    (8_usize..12, 8_usize..12).prop_map(|(height, width)| scatter_case([1, height, width]))
}

fn any_network() -> impl Strategy<Value = Case> {
    prop_oneof![
        (2_usize..5).prop_map(|classes| {
            let text = "name = \"cnn-small\"";
            image_case(
                "any cnn-small",
                text,
                [1, 28, 28],
                classes,
                move |reader, image| reader.cnn_small(image, classes),
            )
        }),
        (10_usize..15, 10_usize..15, 2_usize..5).prop_map(|(height, width, classes)| {
            let text = "name = \"cnn\"";
            image_case(
                "any cnn",
                text,
                [3, height, width],
                classes,
                move |reader, image| reader.cnn(image, classes),
            )
        }),
        (prop::collection::vec(1_usize..20, 0..3), 1_usize..12).prop_map(|(hidden, columns)| {
            let text = format!("name = \"dense\"\nhidden = {hidden:?}");
            case(
                "any dense",
                &plan(&text, None, columns, 3),
                move |weights, input| Reader::new(weights).perceptron(input, &hidden, 3),
            )
        }),
    ]
}

fn any_resnet() -> impl Strategy<Value = Case> {
    (1_usize..4, 1_usize..3, 8_usize..18, 8_usize..18, 1_usize..3).prop_map(
        |(width, depth, height, columns, channels)| {
            let text = format!(
                "name = \"resnet-gn\"\nwidth = {}\ndepth = {depth}",
                4 * width
            );
            let shape = [2 * channels - 1, height, columns];
            image_case("any resnet", &text, shape, 2, move |reader, image| {
                reader.resnet_gn(image, [4 * width, depth], 2)
            })
        },
    )
}

/// Each example's gradient agrees with the oracle, but for two of five: where a ReLU stands at its corner,
/// rounding decides which side the gradient is of, and the oracle may be on the other.
fn agrees_with_the_oracle(case: &Case) -> Result<(), TestCaseError> {
    let weights: Vec<f64> = case.weights().into_iter().map(f64::from).collect();
    let seeds = [1, 2, 3, 4, 5];
    let gradients = case.gradients(&case.batch(&seeds));
    let largest_errors = gradients
        .iter()
        .zip(seeds)
        .map(|(gradient, seed)| largest_error(case, &weights, gradient, seed));
    let errors: Vec<f64> = largest_errors.collect();
    let agreeing = errors.iter().filter(|&&error| error <= 1e-4).count();
    prop_assert!(agreeing >= 3, "{errors:?}");
    Ok(())
}

/// The largest error of the norm and of some coordinates, over the norm.
fn largest_error(case: &Case, weights: &[f64], gradient: &[f32], seed: usize) -> f64 {
    let norm = gradient
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        .sqrt();
    // Along its own direction the loss grows by the norm.
    let along = |step: f64| {
        let moved = weights.iter().zip(gradient);
        let moved: Vec<f64> = moved
            .map(|(w, g)| w + step * f64::from(*g) / norm)
            .collect();
        case.oracle_loss(&moved, seed)
    };
    let mut error = (norm - (along(1e-6) - along(-1e-6)) / 2e-6).abs();
    let mut random = Random::new(&[4]);
    for _ in 0..10 {
        let at = random.bits() as usize % weights.len();
        let shifted = |step: f64| {
            let mut weights = weights.to_vec();
            weights[at] += step;
            case.oracle_loss(&weights, seed)
        };
        let expected = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
        error = error.max((f64::from(gradient[at]) - expected).abs());
    }
    error / norm
}

proptest! {
    // Always the same cases.
    #![proptest_config(ProptestConfig {
        cases: 50,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn convolutions_of_any_kind_agree_with_the_oracle(case in any_convolution()) {
        agrees_with_the_oracle(&case)?;
    }

    #[test]
    fn text_encoders_of_any_size_agree_with_the_oracle(case in any_text()) {
        agrees_with_the_oracle(&case)?;
    }

    #[test]
    fn public_encoders_of_any_size_agree_with_the_oracle(case in any_bert()) {
        agrees_with_the_oracle(&case)?;
    }

    #[test]
    fn convolutional_and_dense_networks_of_any_size_agree_with_the_oracle(case in any_network()) {
        agrees_with_the_oracle(&case)?;
    }

    #[test]
    fn scattering_of_any_size_agrees_with_the_oracle(case in any_scattering()) {
        agrees_with_the_oracle(&case)?;
    }

    #[test]
    fn residual_networks_of_any_size_agree_with_the_oracle(case in any_resnet()) {
        agrees_with_the_oracle(&case)?;
    }
}
