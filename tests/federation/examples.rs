//! Every example plan is run: submitted, approved, trained, released.

use std::{collections::BTreeMap, fs, path::Path};

use consilium_proto::{
    Plan,
    plan::{Mode, Network, TextInput},
    wire::StudyState,
};

use crate::{
    harness::{Federation, SiteRecords},
    records,
};

const SITES: usize = 3;

/// The plan as its file says, cut down to one round of one step among three sites: the longer the run,
/// the more of the same. A tree keeps a round for each of its levels, and words are hashed to fewer
/// places.
fn shortened(path: &Path) -> Plan {
    let text = fs::read_to_string(path).expect("a readable example");
    let mut plan = Plan::from_toml(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    plan.rounds = match plan.network {
        Network::Tree { depth } => depth as u32,
        _ => 1,
    };
    if let Some(TextInput::Words { buckets, .. }) = &mut plan.text {
        *buckets = (*buckets).min(1024);
    }
    plan.cohort.size = SITES as u32;
    plan.cohort.quorum = None;
    plan.training.steps = 1;
    plan.training.batch_size = plan.training.batch_size.min(6);
    plan.check().expect("a sound plan");
    plan
}

fn examples() -> BTreeMap<String, Plan> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder)
        .expect("the examples")
        .map(|file| file.expect("one").path());
    let plans = files.filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    plans
        .map(|path| (path.display().to_string(), shortened(&path)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_plan_becomes_a_released_model() {
    let plans = examples();
    assert!(plans.len() >= 12, "only {} examples", plans.len());
    let mut sets: BTreeMap<&str, Vec<&Plan>> = BTreeMap::new();
    for plan in plans.values() {
        sets.entry(&plan.data_set).or_default().push(plan);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let site = |site: usize| -> Vec<SiteRecords> {
        let of = |(name, plans): (&&str, &Vec<&Plan>)| {
            records::of_all(plans, &folder.path().join(format!("{site}-{name}")))
        };
        sets.iter().map(of).collect()
    };
    let mut federation = Federation::found((0..SITES).map(site).collect()).await;
    for (file, plan) in &plans {
        let study = federation.run(plan).await;
        assert_eq!(study.summary().state(), StudyState::Finished, "{file}");
        let mut researcher = federation.researcher().await;
        let release = researcher.release(&study).await.expect("a signed release");
        let tensors = safetensors::SafeTensors::deserialize(&release.file).expect("safetensors");
        assert_eq!(tensors.len(), study.layout.tensors().len(), "{file}");
        let version = study.detail.versions.last().expect("a version");
        assert_eq!(version.contributions.len(), SITES, "{file}");
        for contribution in &version.contributions {
            let is_charged = contribution.charge.is_some();
            assert_eq!(is_charged, plan.privacy.mode == Mode::Local, "{file}");
        }
    }
}
