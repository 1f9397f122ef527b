use super::*;

const PLAN: &str = r#"
name = "pneumonia"
task = "image-classification"
data_set = "chest"
classes = ["normal", "pneumonia"]
rounds = 10
secure_aggregation = false
[cohort]
size = 5
[image]
width = 28
height = 28
[network]
name = "cnn-small"
[training]
steps = 5
batch_size = 64
learning_rate = 0.1
[privacy]
clipping_norm = 1.0
epsilon = 1.0
delta = 1e-6
"#;

const POLICY: &str = r#"
tasks = ["image-classification"]
allow_without_secure_aggregation = true
[data_sets.chest]
epsilon = 8.0
delta = 1e-5
"#;

fn plan(from: &str, to: &str) -> Plan {
    assert!(PLAN.contains(from));
    Plan::from_toml(&PLAN.replacen(from, to, 1)).expect("a sound plan")
}

fn policy(text: &str) -> Policy {
    toml::from_str(text).expect("a sound policy")
}

fn objection(policy: &Policy, plan: &Plan, size: u64) -> String {
    let refusal = policy
        .check(plan, Some(size))
        .expect_err("against the policy");
    assert_eq!(refusal.objections().len(), 1, "{refusal}");
    refusal.to_string()
}

#[test]
fn without_a_policy_nothing_is_allowed() {
    let refusal = Policy::default()
        .check(&plan("", ""), Some(3000))
        .expect_err("closed");
    let text = refusal.to_string();
    assert!(
        text.contains("`tasks`") && text.contains("`data_sets`"),
        "{text}"
    );
    assert!(!Policy::default().auto_approve);
}

#[test]
fn a_plan_within_the_policy_is_allowed() {
    assert_eq!(policy(POLICY).check(&plan("", ""), Some(3000)), Ok(()));
}

#[test]
fn every_objection_names_its_field() {
    let cases = [
        ("size = 5", "size = 4", "`min_cohort`"),
        ("epsilon = 1.0", "epsilon = 1.1", "`study_epsilon`"),
        ("delta = 1e-6", "delta = 1.1e-5", "`study_delta`"),
        (
            "secure_aggregation = false\n[cohort]\nsize = 5",
            "[cohort]\nsize = 5\nquorum = 3",
            "`colluding`",
        ),
        ("\"chest\"", "\"hands\"", "`data_sets`"),
        (
            "clipping_norm = 1.0\nepsilon = 1.0\ndelta = 1e-6",
            "mode = \"none\"",
            "`allow_no_privacy`",
        ),
        ("epsilon = 1.0", "noise_multiplier = 0.1", "`study_epsilon`"),
    ];
    for (from, to, field) in cases {
        let message = objection(&policy(POLICY), &plan(from, to), 3000);
        assert!(message.contains(field), "{to}: {message}");
    }
}

#[test]
fn noise_that_all_sites_share_needs_to_be_allowed_by_name_and_enough_of_them_honest() {
    let mut plan = plan("secure_aggregation = false", "");
    plan.cohort.max_attempts = 2;
    plan.cohort.quorum = Some(5);
    plan.training.steps = 1;
    plan.privacy.mode = Mode::Distributed;
    plan.privacy.epsilon = None;
    plan.privacy.noise_multiplier = Some(5.0);
    plan.check().expect("a sound plan");
    let message = objection(&policy(POLICY), &plan, 3000);
    assert!(message.contains("`allow_distributed` is off"), "{message}");
    let allowed = format!("allow_distributed = true\n{POLICY}");
    assert_eq!(policy(&allowed).check(&plan, Some(3000)), Ok(()));
    let wary = format!("colluding = 2\n{allowed}");
    let message = objection(&policy(&wary), &plan, 3000);
    assert!(message.contains("`colluding` is 2"), "{message}");
}

#[test]
fn an_update_in_sight_of_the_coordinator_needs_to_be_allowed_by_name() {
    let closed = POLICY.replace("allow_without_secure_aggregation = true", "");
    let message = objection(&policy(&closed), &plan("", ""), 3000);
    assert!(
        message.contains("`allow_without_secure_aggregation`"),
        "{message}"
    );
}

#[test]
fn delta_is_at_most_a_tenth_of_one_over_the_public_size() {
    let allowed = plan("delta = 1e-6", "delta = 1e-5");
    assert_eq!(policy(POLICY).check(&allowed, Some(10_000)), Ok(()));
    let message = objection(&policy(POLICY), &allowed, 10_001);
    assert!(message.contains("privacy.delta"), "{message}");
    assert_eq!(
        policy(POLICY).check(&allowed, None),
        Ok(()),
        "not known yet"
    );
}

#[test]
fn what_is_opened_by_name_is_open() {
    let open = format!("allow_no_privacy = true\nmin_cohort = 3\n{POLICY}");
    let none = plan(
        "clipping_norm = 1.0\nepsilon = 1.0\ndelta = 1e-6",
        "mode = \"none\"",
    );
    assert_eq!(policy(&open).check(&none, Some(3000)), Ok(()));
    assert_eq!(
        policy(&open).check(&plan("size = 5", "size = 3"), Some(3000)),
        Ok(())
    );
}

#[test]
fn unknown_fields_and_unsound_values_are_named() {
    let refused = |text: &str| toml::from_str::<Policy>(text).expect_err(text).to_string();
    assert!(refused("auto_aprove = true").contains("auto_aprove"));
    assert!(refused("study_epsilon = 0.0").contains("epsilon"));
    assert!(refused("study_delta = 0.5").contains("delta"));
    assert!(refused("[data_sets.x]\nepsilon = 1.0").contains("delta"));
}

#[test]
fn calibrated_noise_keeps_all_rounds_within_the_target() {
    let plan = plan("", "");
    let guarantee = plan.privacy.guarantee().expect("a private plan");
    let noise = Noise::of(&plan, &guarantee, 640).expect("reachable");
    assert_eq!(noise.sampling_rate.value(), 0.1);
    let delta = Delta::try_from(1e-6).expect("within range");
    let spent = Rdp::new().epsilon(&[noise.charge(50)], delta);
    assert!(spent <= 1.0 && spent > 0.99, "{spent}");
    let few = Noise::of(&plan, &guarantee, 10).expect("reachable");
    assert_eq!(few.sampling_rate.value(), 1.0, "at most every patient");
}

/// The noise that a target asks for is known at the site alone, before it charges.
#[test]
fn noise_that_adaptive_clipping_has_no_room_for_is_refused_by_name() {
    let adaptive = "clipping = { name = \"adaptive\" }\nclipping_norm = 1.0";
    let plan = plan("clipping_norm = 1.0", adaptive);
    let guarantee = plan.privacy.guarantee().expect("private");
    assert!(Noise::of(&plan, &guarantee, 1_000_000).is_ok());
    let refused = Noise::of(&plan, &guarantee, 10).expect_err("every patient in every batch");
    let refused = refused.to_string();
    assert!(
        refused.contains("privacy.clipping.count_noise"),
        "{refused}"
    );
}
