//! The demo's two studies: the same network and the same steps, with and without privacy.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use consilium_proto::Plan;

use super::material::Material;

/// Name under which the demo's hospitals register their data.
pub(super) const DATA_SET: &str = "chest";

/// Networks that the demo can train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkName {
    /// One convolution; 28 x 28 grey images only
    CnnSmall,
    /// Two convolutions
    Cnn,
    /// Residual blocks with group norm
    ResnetGn,
}

impl NetworkName {
    /// What suits a material best: the small network wherever it fits.
    pub(super) fn for_material(material: &Material) -> Self {
        match (material.width, material.height, material.channels) {
            (28, 28, 1) => Self::CnnSmall,
            _ => Self::Cnn,
        }
    }
}

/// What the demo asks of a study.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settings {
    pub(super) network: NetworkName,
    pub(super) rounds: u32,
    pub(super) seed: u64,
    pub(super) epsilon: f64,
    pub(super) delta: f64,
}

/// Whether a study protects its patients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protection {
    None,
    Private,
}

/// The text of a plan for this material.
pub(super) fn text(settings: &Settings, material: &Material, protection: Protection) -> String {
    let Settings {
        rounds,
        seed,
        epsilon,
        delta,
        ..
    } = *settings;
    let (name, privacy) = match protection {
        Protection::None => ("together, without privacy", "mode = \"none\"\n".to_owned()),
        Protection::Private => (
            "together, with privacy",
            format!("clipping_norm = 1.0\nepsilon = {epsilon:?}\ndelta = {delta:e}\n"),
        ),
    };
    let classes: Vec<_> = material
        .classes
        .iter()
        .map(|class| format!("{class:?}"))
        .collect();
    let sites = material.hospitals.len();
    let Material {
        width,
        height,
        channels,
        ..
    } = *material;
    let mut text = format!(
        "name = \"{name}\"\n\
         task = \"image-classification\"\n\
         data_set = \"{DATA_SET}\"\n\
         classes = [{}]\n\
         seed = {seed}\n\
         rounds = {rounds}\n\
         # This version has no secure aggregation: the coordinator sees each update.\n\
         secure_aggregation = false\n\n\
         [cohort]\nsize = {sites}\ndeadline = \"10m\"\n\n\
         [image]\nwidth = {width}\nheight = {height}\nchannels = {channels}\n",
        classes.join(", ")
    );
    if !material.is_generated {
        // Real hospitals' test images differ from their training images more than generated ones.
        text += "augment = [{ step = \"shift\", max_pixels = 2 }, \
                 { step = \"contrast\", max_factor = 1.5 }]\n";
    }
    let Recipe {
        network,
        steps,
        plain,
        private,
    } = Recipe::of(settings.network, epsilon);
    let optimizer = match protection {
        Protection::None => plain,
        Protection::Private => private,
    };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n[network]\n{network}\n\n\
         [training]\nsteps = {steps}\nbatch_size = {BATCH_SIZE}\n{optimizer}\n\n\
         [privacy]\n{privacy}"
    );
    text
}

/// Writes the plan under the demo's folder, for people, and returns it checked.
///
/// # Errors
/// Options that make an unsound plan, or a file that cannot be written.
pub(super) fn write(
    dir: &Path,
    name: &str,
    settings: &Settings,
    material: &Material,
    protection: Protection,
) -> Result<Plan> {
    let text = text(settings, material, protection);
    let plan = Plan::from_toml(&text).context("the demo's plan")?;
    let folder = dir.join("plans");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(plan)
}

/// Refuses ε and δ that no plan may have, before any work.
///
/// # Errors
/// The field and the reason.
pub(super) fn check_privacy(epsilon: f64, delta: Option<f64>) -> Result<()> {
    // As TOML writes them, NaN included.
    let [epsilon, delta] = [epsilon, delta.unwrap_or(1e-5)].map(toml::Value::from);
    let text = format!(
        "name = \"x\"\ntask = \"image-classification\"\ndata_set = \"x\"\nclasses = [\"a\", \"b\"]\n\
         rounds = 1\ncohort = {{ size = 1 }}\nimage = {{ width = 28, height = 28 }}\n\
         network = {{ name = \"cnn-small\" }}\n\
         training = {{ steps = 1, batch_size = 1, learning_rate = 0.1 }}\n\
         [privacy]\nclipping_norm = 1.0\nepsilon = {epsilon}\ndelta = {delta}\n"
    );
    Plan::from_toml(&text)?;
    Ok(())
}

/// The policy of each of the demo's hospitals: what its two studies need, and no more.
pub(super) fn policy(settings: &Settings, sites: usize) -> String {
    let Settings { epsilon, delta, .. } = *settings;
    format!(
        "# Written by `consilium demo`. A hospital's own policy would be stricter: it would have a\n\
         # person approve each study, and allow none without privacy.\n\
         tasks = [\"image-classification\"]\n\
         study_epsilon = {epsilon:?}\n\
         study_delta = {delta:e}\n\
         min_cohort = {}\n\
         auto_approve = true\n\
         allow_no_privacy = true\n\
         # This version has no secure aggregation: no colluding site and no drop-out is covered.\n\
         allow_without_secure_aggregation = true\n\n\
         # What all studies together may spend.\n\
         [data_sets]\n\
         {DATA_SET} = {{ epsilon = {:?}, delta = {delta:e} }}\n",
        sites.min(3),
        2.0 * epsilon + 2.0
    )
}

/// Work of a site in a round, and the optimiser; `docs/results.md` says how they were chosen.
struct Recipe {
    network: &'static str,
    steps: u32,
    plain: &'static str,
    private: &'static str,
}

/// Expected patients in a batch.
const BATCH_SIZE: u32 = 128;

impl Recipe {
    fn of(network: NetworkName, epsilon: f64) -> Self {
        match network {
            NetworkName::CnnSmall => Self {
                network: "name = \"cnn-small\"",
                steps: 10,
                plain: "learning_rate = 0.015\noptimizer = { name = \"momentum\" }",
                // More noise, shorter steps.
                private: if epsilon < 5.0 {
                    "learning_rate = 0.25"
                } else {
                    "learning_rate = 0.5"
                },
            },
            NetworkName::Cnn => Self {
                network: "name = \"cnn\"",
                steps: 5,
                plain: "learning_rate = 0.01\noptimizer = { name = \"momentum\" }",
                private: "learning_rate = 0.3",
            },
            NetworkName::ResnetGn => Self {
                network: "name = \"resnet-gn\"\nwidth = 8\ndepth = 2",
                steps: 10,
                plain: "learning_rate = 0.005\noptimizer = { name = \"adam\" }",
                private: "learning_rate = 0.005\noptimizer = { name = \"adam\" }",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::material::HospitalFolder;

    fn material() -> Material {
        let hospital = |index| HospitalFolder {
            name: HospitalFolder::name_of(index),
            path: "nowhere".into(),
            patients: 100,
            has_patients: true,
        };
        Material {
            classes: vec!["no \"finding\"".into(), "sick".into()],
            hospitals: (0..3).map(hospital).collect(),
            public: "nowhere".into(),
            width: 28,
            height: 28,
            channels: 1,
            is_generated: true,
        }
    }

    #[test]
    fn every_network_gives_two_sound_plans_that_differ_in_protection() {
        for network in [
            NetworkName::CnnSmall,
            NetworkName::Cnn,
            NetworkName::ResnetGn,
        ] {
            let settings = Settings {
                network,
                rounds: 7,
                seed: 3,
                epsilon: 2.0,
                delta: 1e-5,
            };
            let plan = |protection| {
                Plan::from_toml(&text(&settings, &material(), protection)).expect("a sound plan")
            };
            let (plain, private) = (plan(Protection::None), plan(Protection::Private));
            assert_eq!(plain.privacy.guarantee(), None);
            assert_eq!(private.privacy.epsilon, Some(2.0));
            assert_eq!((plain.rounds, plain.seed), (private.rounds, private.seed));
            assert_eq!(plain.training.steps, private.training.steps);
            assert_eq!(plain.classes[0], "no \"finding\"");
        }
    }

    #[test]
    fn the_hospitals_policy_allows_both_plans() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        let network = NetworkName::CnnSmall;
        let settings = Settings {
            network,
            rounds: 7,
            seed: 3,
            epsilon: 2.0,
            delta: 1e-5,
        };
        std::fs::write(&path, policy(&settings, 3)).expect("a file");
        let policy = consilium_agent::policy::Policy::load(&path).expect("a sound policy");
        for protection in [Protection::None, Protection::Private] {
            let plan = Plan::from_toml(&text(&settings, &material(), protection));
            policy
                .check(&plan.expect("a sound plan"), Some(2000))
                .expect("allowed");
        }
    }

    #[test]
    fn unsound_privacy_is_refused_with_its_field() {
        let refusal = |epsilon, delta| {
            check_privacy(epsilon, delta)
                .expect_err("unsound")
                .to_string()
        };
        assert!(refusal(0.0, None).contains("privacy.epsilon"));
        assert!(refusal(-1.0, None).contains("privacy.epsilon"));
        assert!(refusal(f64::NAN, None).contains("privacy.epsilon"));
        assert!(refusal(8.0, Some(0.01)).contains("privacy.delta"));
    }
}
