//! A tree that hospitals grow together, level by level.

use consilium_models::random::Random;

use super::*;

const DEPTH: u32 = 3;

fn plan(sites: usize, privacy: &str) -> Plan {
    let text = format!(
        r#"
        name = "tree"
        task = "diagnosis"
        data_set = "x"
        classes = ["well", "ill"]
        rounds = {DEPTH}
        secure_aggregation = false
        cohort = {{ size = {sites} }}
        table.columns = [
            {{ name = "age", mean = 50.0, deviation = 10.0, edges = [18.0, 40.0, 65.0] }},
            {{ name = "fever", edges = [0.5] }},
            {{ name = "pulse", mean = 80.0, deviation = 20.0, edges = [60.0, 100.0] }},
        ]
        network = {{ name = "tree", depth = {DEPTH} }}
        training = {{ steps = 1, batch_size = 512, learning_rate = 1.0 }}
        strategy = {{ name = "sum" }}
        privacy = {{ {privacy} }}
    "#
    );
    Plan::from_toml(&text).expect("a sound plan")
}

/// Old people with a fever are ill, and so is who has a fast pulse and no fever; one in eight is not as told.
fn rows() -> Vec<Example> {
    let mut random = Random::new(&[3]);
    let mut row = || {
        let [age, fever, pulse] = [20.0 + 70.0 * random.unit(), random.unit(), random.unit()];
        let pulse = 50.0 + 80.0 * pulse;
        let fever = f32::from(u8::from(fever > 0.5));
        let rule = if fever > 0.5 {
            age >= 65.0
        } else {
            pulse >= 100.0
        };
        let is_ill = rule != (random.unit() < 0.125);
        Example {
            input: vec![(age - 50.0) / 10.0, fever, (pulse - 80.0) / 20.0],
            target: Target::Class(usize::from(is_ill)),
        }
    };
    (0..480).map(|_| row()).collect()
}

fn grown(sites: usize, privacy: &str) -> Simulation {
    let plan = plan(sites, privacy);
    let mut hospitals: Vec<Vec<Vec<Example>>> = vec![Vec::new(); sites];
    for (at, row) in rows().into_iter().enumerate() {
        // Hospitals of different sizes.
        hospitals[(at % 7) % sites].push(vec![row]);
    }
    let hospitals = hospitals.into_iter().map(Records).collect();
    let mut study = Simulation::new(&plan, hospitals, None).expect("a sound study");
    for _ in 0..DEPTH {
        study.next(&StopFlag::default()).expect("a round");
    }
    study
}

fn tree(study: &Simulation) -> consilium_models::decision::tree::Tree {
    let weights = study.network.weights(study.weights().as_slice());
    study
        .network
        .tree(&weights.expect("its own weights"))
        .expect("a tree")
}

#[test]
fn three_hospitals_grow_the_tree_that_their_rows_in_one_place_would() {
    let (together, pooled) = (grown(3, "mode = \"none\""), grown(1, "mode = \"none\""));
    assert_eq!(together.weights(), pooled.weights());
    let tree = tree(&together);
    assert_eq!(tree, self::tree(&pooled));
    assert!(tree.depth() >= 2, "the rule takes two questions");
    // Bins of age, fever and pulse.
    for (bins, is_ill) in [
        ([3, 1, 0], true),
        ([1, 1, 2], false),
        ([3, 0, 1], false),
        ([1, 0, 2], true),
    ] {
        let probabilities = tree.probabilities(&bins);
        assert_eq!(probabilities[1] > 0.5, is_ill, "{bins:?} {probabilities:?}");
    }
}

#[test]
fn each_level_of_a_private_tree_is_charged_to_every_hospital() {
    let privacy = "clipping_norm = 1.7321, noise_multiplier = 2.0, delta = 1e-5";
    let mut study = grown(3, privacy);
    let spent = study.epsilon().expect("privacy");
    for hospital in &study.hospitals {
        let Site::Private { ledger, noise, .. } = &hospital.protection else {
            panic!("without privacy");
        };
        let charges: Vec<_> = ledger
            .entries()
            .iter()
            .filter_map(|entry| entry.fact.charged())
            .collect();
        assert_eq!(charges.len(), DEPTH as usize);
        assert!(
            charges
                .iter()
                .all(|charged| charged.charge == noise.charge(1))
        );
        let rounds: Vec<u32> = charges.iter().map(|charged| charged.round).collect();
        assert_eq!(rounds, [1, 2, 3]);
        let delta = Delta::try_from(1e-5).expect("in range");
        let of_one = Rdp::new().epsilon(&[noise.charge(1)], delta);
        assert!(spent > of_one, "three levels cost more than one");
    }
    // Noise differs from grown tree to grown tree.
    assert_ne!(study.weights(), grown(3, privacy).weights());
}
