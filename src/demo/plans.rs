//! The demo's two studies: the same network and the same steps, with and without privacy.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use consilium_models::network::Wish;
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
    /// Wavelet scattering, then two small convolutions
    ScatterCnn,
}

impl NetworkName {
    /// What suits material and protection best, by `docs/results.md`. Noise grows with the number
    /// of weights, so a private study takes few: features that need no training where the noise leaves room
    /// for them, otherwise the smallest network that fits. Without noise, the largest one bears a
    /// change of scanner best. Generated images need no more than a small one.
    fn for_study(material: &Material, protection: Protection, epsilon: f64) -> Self {
        let is_small = (material.width, material.height, material.channels) == (28, 28, 1);
        match protection {
            Protection::None if !material.is_generated => Self::ResnetGn,
            Protection::Private if !material.is_generated && is_small && epsilon >= TIGHT => {
                Self::ScatterCnn
            }
            _ if is_small => Self::CnnSmall,
            _ => Self::Cnn,
        }
    }

    /// As plans name it.
    fn name(self) -> &'static str {
        match self {
            Self::CnnSmall => "cnn-small",
            Self::Cnn => "cnn",
            Self::ResnetGn => "resnet-gn",
            Self::ScatterCnn => "scatter-cnn",
        }
    }
}

/// What the demo asks of a study.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// None: what suits each study.
    pub(super) network: Option<NetworkName>,
    pub(super) rounds: u32,
    pub(super) seed: u64,
    /// Whether the coordinator learns only sums.
    pub(super) secure_aggregation: bool,
    /// Where agents train.
    pub(super) device: Wish,
    pub(super) epsilon: f64,
    pub(super) delta: f64,
}

/// Whether a study protects its patients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protection {
    None,
    Private,
}

impl Settings {
    fn network(&self, material: &Material, protection: Protection) -> NetworkName {
        self.network
            .unwrap_or_else(|| NetworkName::for_study(material, protection, self.epsilon))
    }

    /// Names the networks of the two studies, for people.
    pub(super) fn networks(&self, material: &Material) -> String {
        let [plain, private] = [Protection::None, Protection::Private]
            .map(|protection| self.network(material, protection).name());
        match plain == private {
            true => plain.to_owned(),
            false => format!("{plain} without privacy, {private} with"),
        }
    }
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
    let secure = match settings.secure_aggregation {
        true => "",
        false => {
            "# Switched off by name: the coordinator sees each update.\n\
             secure_aggregation = false\n"
        }
    };
    let mut text = format!(
        "name = \"{name}\"\n\
         task = \"image-classification\"\n\
         data_set = \"{DATA_SET}\"\n\
         classes = [{}]\n\
         seed = {seed}\n\
         rounds = {rounds}\n\
         {secure}\n\
         [cohort]\nsize = {sites}\ndeadline = \"10m\"\n\n\
         [image]\nwidth = {width}\nheight = {height}\nchannels = {channels}\n",
        classes.join(", ")
    );
    if !material.is_generated {
        // Real hospitals' test images differ from their training images more than generated ones.
        text += match protection {
            Protection::None => {
                "augment = [{ step = \"rotate\", max_degrees = 8.0 }, \
                 { step = \"shift\", max_pixels = 2 }, \
                 { step = \"contrast\", max_factor = 2.0 }, \
                 { step = \"noise\", deviation = 0.03 }]\n"
            }
            Protection::Private => {
                "augment = [{ step = \"shift\", max_pixels = 2 }, \
                 { step = \"contrast\", max_factor = 1.5 }]\n"
            }
        };
    }
    let network = settings.network(material, protection);
    let recipe = Recipe::of(network, protection, epsilon);
    let Recipe {
        sizes,
        learning_rate,
        momentum,
        ..
    } = recipe;
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n[network]\nname = \"{}\"\n{sizes}\n\
         [training]\nsteps = {}\nbatch_size = {BATCH_SIZE}\nlearning_rate = {learning_rate:?}\n\n\
         [strategy]\nname = \"fed-avg-m\"\nmomentum = {momentum:?}\n\n\
         [privacy]\n{privacy}",
        network.name(),
        recipe.steps(rounds)
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
         rounds = 1\nsecure_aggregation = false\ncohort = {{ size = 1 }}\nimage = {{ width = 28, height = 28 }}\n\
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
    let secure = match (settings.secure_aggregation, sites) {
        (true, 0..5) => {
            "# Of fewer than five sites none may drop out, and none may work with the coordinator.\n\
             colluding = 0\n"
        }
        (true, _) => "",
        (false, _) => {
            "# The coordinator sees this hospital's own update.\n\
             allow_without_secure_aggregation = true\n"
        }
    };
    let most = if settings.secure_aggregation { 5 } else { 3 };
    format!(
        "# Written by `consilium demo`. A hospital's own policy would be stricter: it would have a\n\
         # person approve each study, and allow none without privacy.\n\
         tasks = [\"image-classification\"]\n\
         study_epsilon = {epsilon:?}\n\
         study_delta = {delta:e}\n\
         min_cohort = {}\n\
         auto_approve = true\n\
         allow_no_privacy = true\n\
         {secure}\n\
         # What all studies together may spend.\n\
         [data_sets]\n\
         {DATA_SET} = {{ epsilon = {:?}, delta = {delta:e} }}\n",
        sites.min(most),
        2.0 * epsilon + 2.0
    )
}

/// ε below which noise calls for shorter steps and the smallest network.
const TIGHT: f64 = 5.0;

/// Expected patients in a batch.
const BATCH_SIZE: u32 = 128;

/// How a network is trained; `docs/results.md` says how the numbers were chosen.
///
/// Hospitals differ in what they see, and the more steps they take by themselves, the further they
/// drift apart. So they take few steps a round, plain ones, and the momentum is the coordinator's.
#[derive(Debug, Clone, Copy)]
struct Recipe {
    sizes: &'static str,
    /// Steps that are enough, over all rounds.
    steps: u32,
    learning_rate: f64,
    momentum: f64,
}

impl Recipe {
    fn of(network: NetworkName, protection: Protection, epsilon: f64) -> Self {
        let is_private = protection == Protection::Private;
        let momentum = if is_private { 0.8 } else { 0.9 };
        let (sizes, steps, learning_rate) = match (network, is_private) {
            (NetworkName::CnnSmall, false) => ("", 240, 0.05),
            // More noise, shorter steps.
            (NetworkName::CnnSmall, true) if epsilon < TIGHT => ("", 240, 0.15),
            (NetworkName::CnnSmall, true) => ("", 240, 0.2),
            (NetworkName::Cnn, false) => ("", 160, 0.05),
            (NetworkName::Cnn, true) => ("", 160, 0.15),
            (NetworkName::ResnetGn, false) => ("width = 8\ndepth = 3\n", 180, 0.2),
            (NetworkName::ResnetGn, true) => ("width = 8\ndepth = 3\n", 240, 1.0),
            (NetworkName::ScatterCnn, false) => ("", 120, 0.1),
            (NetworkName::ScatterCnn, true) => ("", 120, 0.25),
        };
        Self {
            sizes,
            steps,
            learning_rate,
            momentum,
        }
    }

    /// Steps of a round: fewer rounds, longer ones.
    fn steps(&self, rounds: u32) -> u32 {
        self.steps.div_ceil(rounds).clamp(2, 10)
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
            NetworkName::ScatterCnn,
        ] {
            let settings = Settings {
                network: Some(network),
                rounds: 7,
                seed: 3,
                secure_aggregation: true,
                device: Wish::Auto,
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
            assert_eq!(plain.network, private.network);
            assert!(plain.training.steps >= 2 && private.training.steps >= 2);
            assert_eq!(plain.classes[0], "no \"finding\"");
        }
    }

    #[test]
    fn each_study_gets_the_network_that_suits_it_unless_one_is_named() {
        let real = Material {
            is_generated: false,
            ..material()
        };
        let mut settings = Settings {
            network: None,
            rounds: 7,
            seed: 3,
            secure_aggregation: true,
            device: Wish::Auto,
            epsilon: 2.0,
            delta: 1e-5,
        };
        assert_eq!(settings.networks(&material()), "cnn-small");
        let both = "resnet-gn without privacy, cnn-small with";
        assert_eq!(settings.networks(&real), both);
        settings.epsilon = 8.0;
        let both = "resnet-gn without privacy, scatter-cnn with";
        assert_eq!(settings.networks(&real), both);
        settings.network = Some(NetworkName::Cnn);
        assert_eq!(settings.networks(&real), "cnn");
    }

    #[test]
    fn the_hospitals_policy_allows_both_plans() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        let settings = Settings {
            network: None,
            rounds: 7,
            seed: 3,
            secure_aggregation: true,
            device: Wish::Auto,
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
