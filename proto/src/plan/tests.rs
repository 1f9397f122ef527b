use super::*;

const PLAN: &str = r#"
name = "pneumonia"
task = "image-classification"
data_set = "chest"
classes = ["normal", "pneumonia"]
seed = 7
rounds = 10

[cohort]
size = 3

[image]
width = 28
height = 28
denoise = [{ step = "median", radius = 1 }]
augment = [{ step = "flip", axis = "horizontal" }, { step = "shift", max_pixels = 2 }]

[network]
name = "resnet-gn"
width = 8

[training]
steps = 5
batch_size = 64
learning_rate = 0.1
optimizer = { name = "momentum" }

[strategy]
name = "fed-adam"

[privacy]
clipping_norm = 1.0
epsilon = 8.0
delta = 1e-5
"#;

fn refusal_of(from: &str, to: &str) -> String {
    assert!(PLAN.contains(from), "the plan has no {from:?}");
    let text = PLAN.replacen(from, to, 1);
    Plan::from_toml(&text)
        .expect_err("an unsound plan")
        .to_string()
}

#[test]
fn a_plan_survives_the_wire_and_keeps_its_identity() {
    let plan = Plan::from_toml(PLAN).expect("a sound plan");
    let canonical = plan.to_canonical();
    let again = Plan::from_canonical(&canonical).expect("its own bytes");
    assert_eq!(plan, again);
    assert_eq!(again.to_canonical(), canonical);
    assert_eq!(plan.digest(), Plan::digest_of(&canonical));
}

#[test]
fn what_a_plan_leaves_out_is_closed_by_default() {
    let plan = Plan::from_toml(PLAN).expect("a sound plan");
    assert!(plan.secure_aggregation);
    assert_eq!(plan.privacy.mode, Mode::Local);
    assert_eq!(plan.cohort.quorum(), 3);
}

#[test]
fn an_unknown_field_is_named() {
    let message = refusal_of("rounds = 10", "rounds = 10\nronds = 3");
    assert!(message.contains("ronds"), "{message}");
    let message = refusal_of("clipping_norm", "cliping_norm = 2.0\nclipping_norm");
    assert!(message.contains("cliping_norm"), "{message}");
}

#[test]
fn every_unsound_field_is_named_with_its_reason() {
    let cases = [
        ("epsilon = 8.0", "epsilon = 0.0", "privacy.epsilon"),
        ("epsilon = 8.0", "epsilon = -1.0", "privacy.epsilon"),
        ("epsilon = 8.0", "epsilon = nan", "privacy.epsilon"),
        (
            "epsilon = 8.0",
            "epsilon = 8.0\nnoise_multiplier = 1.0",
            "privacy.epsilon",
        ),
        ("epsilon = 8.0", "", "privacy.epsilon"),
        ("delta = 1e-5", "delta = 1e-2", "privacy.delta"),
        ("delta = 1e-5", "delta = 0.0", "privacy.delta"),
        ("delta = 1e-5", "", "privacy.delta"),
        (
            "clipping_norm = 1.0",
            "clipping_norm = inf",
            "privacy.clipping_norm",
        ),
        ("clipping_norm = 1.0", "", "privacy.clipping_norm"),
        ("[privacy]", "[privacy]\nmode = \"none\"", "privacy.mode"),
        ("rounds = 10", "rounds = 0", "rounds"),
        ("size = 3", "size = 0", "cohort.size"),
        ("size = 3", "size = 3\nquorum = 4", "cohort.quorum"),
        ("size = 3", "size = 3\ndeadline = \"0s\"", "cohort.deadline"),
        ("\"normal\", \"pneumonia\"", "\"normal\"", "classes"),
        ("\"normal\", \"pneumonia\"", "\"x\", \"x\"", "classes"),
        ("width = 28", "width = 7", "image.width"),
        ("height = 28", "height = 28\nchannels = 2", "image.channels"),
        (
            "height = 28",
            "height = 28\ndeviation = 0.0",
            "image.deviation",
        ),
        ("radius = 1", "radius = 9", "image.denoise"),
        ("max_pixels = 2", "max_pixels = 0", "image.augment"),
        ("width = 8", "width = 9", "network.width"),
        (
            "name = \"resnet-gn\"\nwidth = 8",
            "name = \"dense\"\nhidden = []",
            "network.name",
        ),
        ("steps = 5", "steps = 0", "training.steps"),
        ("batch_size = 64", "batch_size = 0", "training.batch_size"),
        (
            "learning_rate = 0.1",
            "learning_rate = nan",
            "training.learning_rate",
        ),
        (
            "\"momentum\"",
            "\"momentum\", decay = 1.0",
            "training.optimizer.decay",
        ),
        (
            "\"fed-adam\"",
            "\"fed-adam\"\nbeta1 = 1.0",
            "strategy.beta1",
        ),
    ];
    for (from, to, field) in cases {
        let message = refusal_of(from, to);
        assert!(
            message.contains(&format!("`{field}`")),
            "{from} -> {to}: {message}"
        );
    }
}

/// Studies under way keep their identity: what came later is left out where it says nothing new.
#[test]
fn settings_that_came_later_change_no_older_plan() {
    let plan = Plan::from_toml(PLAN).expect("a sound plan");
    let canonical = String::from_utf8(plan.to_canonical()).expect("JSON");
    for field in ["clipping\"", "schedule", "views", "average_decay"] {
        assert!(!canonical.contains(field), "{field}: {canonical}");
    }
    let later = PLAN
        .replace(
            "steps = 5",
            "steps = 5\nviews = 4\naverage_decay = 0.9\nschedule = { name = \"cosine\" }",
        )
        .replace(
            "epsilon = 8.0",
            "epsilon = 8.0\nclipping = { name = \"automatic\" }",
        );
    let later = Plan::from_toml(&later).expect("a sound plan");
    assert_eq!(later.privacy.clipping, Clipping::Automatic { gamma: 0.01 });
    assert_eq!(
        Plan::from_canonical(&later.to_canonical()).expect("its own bytes"),
        later
    );
    for (from, to, field) in [
        ("steps = 5", "steps = 5\nviews = 0", "training.views"),
        (
            "steps = 5",
            "steps = 5\naverage_decay = 1.0",
            "average_decay",
        ),
        (
            "steps = 5",
            "steps = 5\nschedule = { name = \"cosine\", warm_up = -0.1 }",
            "warm_up",
        ),
        (
            "{ name = \"momentum\" }",
            "{ name = \"adam-w\", weight_decay = 2.0 }",
            "weight_decay",
        ),
        (
            "epsilon = 8.0",
            "epsilon = 8.0\nclipping = { name = \"automatic\", gamma = 0.0 }",
            "gamma",
        ),
    ] {
        let refusal = refusal_of(from, to);
        assert!(refusal.contains(field), "{refusal}");
    }
}

#[test]
fn adaptive_clipping_has_the_papers_defaults_and_needs_noise_on_its_count() {
    let adaptive =
        |more: &str| format!("clipping = {{ name = \"adaptive\"{more} }}\nepsilon = 8.0");
    let plan = PLAN.replace("epsilon = 8.0", &adaptive(""));
    let plan = Plan::from_toml(&plan).expect("a sound plan");
    let expected = Clipping::Adaptive {
        quantile: 0.5,
        rate: 0.2,
        count_noise: 0.05,
    };
    assert_eq!(plan.privacy.clipping, expected);
    assert_eq!(
        Plan::from_canonical(&plan.to_canonical()).expect("its own bytes"),
        plan
    );
    for (more, field) in [
        (", quantile = 1.0", "quantile"),
        (", rate = 0.0", "rate"),
        (", rate = 1.1", "rate"),
        (", count_noise = 0.0", "count_noise"),
        (", count_noise = 2.0", "count_noise"),
        (", gamma = 0.5", "gamma"),
    ] {
        let refusal = refusal_of("epsilon = 8.0", &adaptive(more));
        assert!(refusal.contains(field), "{refusal}");
    }
    let small = refusal_of(
        "clipping_norm = 1.0\nepsilon = 8.0",
        &format!("clipping_norm = 1e-7\n{}", adaptive("")),
    );
    assert!(small.contains("`privacy.clipping_norm`"), "{small}");
    // B = 64: noise of 3.2 on the count leaves room for a multiplier below 6.4.
    let multiplier = |sigma: &str| {
        let noise = format!("noise_multiplier = {sigma}");
        PLAN.replace(
            "epsilon = 8.0",
            &adaptive("").replace("epsilon = 8.0", &noise),
        )
    };
    assert!(Plan::from_toml(&multiplier("6.39")).is_ok());
    let refusal = Plan::from_toml(&multiplier("6.4")).expect_err("too little noise on the count");
    let refusal = refusal.to_string();
    assert!(
        refusal.contains("`privacy.clipping.count_noise`"),
        "{refusal}"
    );
}

#[test]
fn a_cosine_rises_and_then_falls_to_nothing() {
    let cosine = Schedule::Cosine { warm_up: 0.2 };
    let factors: Vec<f64> = (0..=10).map(|done| cosine.factor(done, 10)).collect();
    assert_eq!(factors[..3], [0.5, 1.0, 1.0]);
    assert!((factors[6] - 0.5).abs() < 1e-12 && factors[10].abs() < 1e-12);
    assert!(factors[2..].is_sorted_by(|a, b| a >= b));
    assert_eq!(Schedule::Constant.factor(3, 10), 1.0);
}

mod text;
