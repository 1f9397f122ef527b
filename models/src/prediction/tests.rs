//! A model that looks for a bright spot: what it says, where it looks, and what it does with other pictures.

use consilium_proto::{Digest, ParameterVector};
use safetensors::{Dtype, tensor::TensorView};

use super::{explanation::Scored, *};
use crate::{network::Target, random::Random};

const SIDE: usize = 28;

fn plan(network: &str) -> Plan {
    let text = format!(
        "name = \"spots\"\ntask = \"image-classification\"\ndata_set = \"d\"\nclasses = [\"clear\", \"spot\"]\n\
         rounds = 1\ncohort = {{ size = 3 }}\ntraining = {{ steps = 1, batch_size = 8, learning_rate = 1.0 }}\n\
         privacy = {{ mode = \"none\" }}\n\
         image = {{ channels = 1, width = {SIDE}, height = {SIDE}, mean = 0.5, deviation = 0.25 }}\n\
         network = {{ {network} }}\n"
    );
    Plan::from_toml(&text).expect("a sound plan")
}

/// Noise with a bright spot of 5 × 5 pixels at a place, or none.
fn picture(random: &mut Random, spot: Option<[usize; 2]>) -> Picture {
    let mut pixels: Vec<f32> = (0..SIDE * SIDE)
        .map(|_| 0.35 + 0.15 * random.unit())
        .collect();
    if let Some([row, column]) = spot {
        for at in 0..25 {
            pixels[(row + at / 5) * SIDE + column + at % 5] = 0.9;
        }
    }
    Picture::new(SIDE, SIDE, 1, pixels).expect("a picture")
}

fn place(random: &mut Random) -> [usize; 2] {
    [0, 1].map(|_| 2 + random.bits() as usize % (SIDE - 9))
}

/// Pictures with their classes, in no order.
fn records(model: &ImageModel, random: &mut Random, count: usize) -> Vec<(Vec<f32>, usize)> {
    let mut record = || {
        let class = usize::from(random.coin());
        let spot = (class == 1).then(|| place(random));
        (model.input(&picture(random, spot)), class)
    };
    (0..count).map(|_| record()).collect()
}

/// The file that a study releases.
fn file(network: &Network, weights: &[f32]) -> Vec<u8> {
    let views = network.layout().ranges().map(|(tensor, range)| {
        let bytes: Vec<u8> = weights[range]
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        (tensor.name.clone(), tensor.shape.clone(), bytes)
    });
    let views: Vec<_> = views.collect();
    let views = views.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor");
        (name, view)
    });
    safetensors::serialize(views, None).expect("a file")
}

fn model(plan: &Plan, weights: &ParameterVector) -> ImageModel {
    let network = Network::from_plan(plan).expect("a network");
    let bytes = file(&network, weights.as_slice());
    let released = Released::from_file(plan.clone(), &bytes).expect("its file");
    assert_eq!(
        released.identity().sha256,
        Digest::plain(&bytes).to_string()
    );
    ImageModel::new(&released).expect("a model")
}

/// A model that some steps of plain descent have taught.
fn trained(network: &str) -> ImageModel {
    let plan = plan(network);
    let network = Network::from_plan(&plan).expect("a network");
    let mut weights = network.initial(plan.seed).into_vec();
    let mut random = Random::new(&[9]);
    let untrained = model(&plan, &network.initial(plan.seed));
    for _ in 0..150 {
        let mut batch = network.batch();
        for (input, class) in records(&untrained, &mut random, 16) {
            batch.push(&input, Target::Class(class)).expect("its size");
        }
        let mut gradient = vec![0.0; weights.len()];
        let ready = network.weights(&weights).expect("its own");
        network
            .add_gradient(&ready, &batch, &mut gradient)
            .expect("a gradient");
        for (weight, gradient) in weights.iter_mut().zip(gradient) {
            *weight -= 0.1 / 16.0 * gradient;
        }
    }
    model(&plan, &ParameterVector::new(weights).expect("finite"))
}

fn rates(error: f64, alarm: f64) -> Rates {
    let [error, alarm] = [error, alarm].map(|rate| Share::try_from(rate).expect("a share"));
    Rates { error, alarm }
}

/// Whether the hottest cell lies on the spot or next to it.
fn points_at(scored: &Scored, [row, column]: [usize; 2]) -> bool {
    let heat = &scored.heat;
    let cells = heat.values.iter().enumerate();
    let hottest = cells.max_by(|one, other| one.1.total_cmp(other.1));
    let at = hottest.map_or(0, |(at, _)| at);
    let middle = |at: usize, of: usize| ((2 * at + 1) * SIDE) as f32 / (2 * of) as f32;
    let [y, x] = [
        middle(at / heat.width, heat.height),
        middle(at % heat.width, heat.width),
    ];
    let away = |found: f32, start: usize| (found - (start as f32 + 2.5)).abs();
    away(y, row) < 5.0 && away(x, column) < 5.0
}

#[test]
fn explanations_point_at_what_was_planted_and_are_faithful() {
    for network in [
        "name = \"resnet-gn\", width = 8, depth = 2",
        "name = \"cnn\"",
    ] {
        let model = trained(network);
        let mut random = Random::new(&[77]);
        let (mut pointed, mut found) = ([0, 0], 0);
        for _ in 0..10 {
            let spot = place(&mut random);
            let input = model.input(&picture(&mut random, Some(spot)));
            let said = model.predict(&input, None).expect("an answer");
            found += usize::from(said.likeliest().is_some_and(|it| it.class == "spot"));
            let explanation = model.explain(&input, 1).expect("an explanation");
            let map = explanation.class_map.expect("it has convolutions");
            for (pointed, scored) in pointed.iter_mut().zip([&map, &explanation.occlusion]) {
                *pointed += usize::from(points_at(scored, spot));
                assert!(scored.deletion < scored.insertion, "{network}: {scored:?}");
            }
        }
        assert!(found >= 9, "{network}: {found} of 10 found");
        // A coarse map's hottest cell may be the neighbour.
        assert!(
            pointed[0] >= 7 && pointed[1] >= 9,
            "{network}: {pointed:?} of 10"
        );
    }
}

/// Adebayo et al. 2018: a map that does not depend on what was learnt explains nothing.
#[test]
fn maps_change_with_the_weights() {
    let network = "name = \"resnet-gn\", width = 8, depth = 2";
    let (taught, plan) = (trained(network), plan(network));
    let fresh = Network::from_plan(&plan).expect("a network").initial(5);
    let fresh = model(&plan, &fresh);
    let input = taught.input(&picture(&mut Random::new(&[4]), Some([10, 4])));
    let heat = |model: &ImageModel| model.explain(&input, 1).expect("a map").class_map;
    assert_ne!(heat(&taught), heat(&fresh));
}

#[test]
fn a_calibrated_model_says_how_sure_it_is_and_what_it_does_not_know() {
    let model = trained("name = \"resnet-gn\", width = 8, depth = 2");
    let mut random = Random::new(&[31]);
    let known = records(&model, &mut random, 400);
    let calibration = model
        .calibrate(&known, rates(0.1, 0.02))
        .expect("enough records");
    let json = serde_json::to_string(&calibration).expect("numbers");
    let again: Calibration = serde_json::from_str(&json).expect("its own");
    assert_eq!(again, calibration);

    let (mut missed, mut unlike) = (0, 0);
    for (input, class) in records(&model, &mut random, 400) {
        let said = model
            .predict(&input, Some(&calibration))
            .expect("an answer");
        assert!(said.is_calibrated);
        let set = said.set.expect("a set");
        missed += usize::from(!set.contains(&model.classes()[class]));
        unlike += usize::from(said.is_unlike_known == Some(true));
    }
    // 40 and 8 of 400 expected; three standard errors, of thresholds from 200 records as well.
    assert!(missed <= 40 + 32, "{missed} of 400 missed");
    assert!(unlike <= 8 + 15, "{unlike} of 400 unlike");

    // Inverted, empty, and without any structure.
    let inverted: Vec<f32> = picture(&mut random, None)
        .pixels()
        .iter()
        .map(|p| 1.0 - p)
        .collect();
    let stripes: Vec<f32> = (0..SIDE * SIDE).map(|at| (at % 2) as f32).collect();
    for pixels in [inverted, stripes, vec![0.0; SIDE * SIDE]] {
        let picture = Picture::new(SIDE, SIDE, 1, pixels).expect("a picture");
        let input = model.input(&picture);
        let said = model
            .predict(&input, Some(&calibration))
            .expect("an answer");
        assert_eq!(said.is_unlike_known, Some(true));
    }
}

#[test]
fn what_no_answer_can_come_of_is_refused() {
    let plan = plan("name = \"cnn-small\"");
    let network = Network::from_plan(&plan).expect("a network");
    let model = model(&plan, &network.initial(1));
    let few = records(&model, &mut Random::new(&[1]), FEWEST - 1);
    assert!(matches!(
        model.calibrate(&few, rates(0.1, 0.01)),
        Err(PredictionError::TooFew(39))
    ));
    let mut wrong = records(&model, &mut Random::new(&[1]), FEWEST);
    wrong[3].1 = 2;
    assert!(model.calibrate(&wrong, rates(0.1, 0.01)).is_err());
    assert!(model.explain(&wrong[0].0, 2).is_err());
    assert!(model.predict(&[0.5; 3], None).is_err());
    for rate in [0.0, 1.0, -0.5, f64::NAN] {
        assert!(Share::try_from(rate).is_err());
    }
    let file = file(&network, network.initial(1).as_slice());
    let other = self::plan("name = \"cnn\"");
    assert!(Released::from_file(other, &file).is_err());
    assert!(Released::from_file(plan, &file[..file.len() - 1]).is_err());
}
