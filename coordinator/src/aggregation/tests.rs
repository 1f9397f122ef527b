use consilium_proto::{ParameterVector, plan::Adaptive};

use super::*;
use crate::{
    blobs::tests::in_memory,
    fixture::{layout, round_id, site},
};

/// 600 parameters in chunks of 256, the last one short.
const PARAMETERS: usize = 600;
const CHUNK: u32 = 1024;

async fn store(blobs: &Blobs, name: &BlobName, values: &[f32]) {
    for (index, chunk) in (0..).zip(values.chunks(CHUNK as usize / 4)) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
        blobs.write(name, index, &bytes).await.expect("memory");
    }
}

async fn load(blobs: &Blobs, name: &BlobName) -> Vec<f32> {
    let mut values = vec![];
    for index in 0..blobs.count(name).await.expect("memory") {
        values
            .extend(words(&blobs.read(name, index).await.expect("written")).expect("whole words"));
    }
    values
}

fn vector(seed: u32) -> Vec<f32> {
    (0..PARAMETERS as u32)
        .map(|i| ((i * 7 + seed * 13) % 101) as f32 / 50.0 - 1.0)
        .collect()
}

fn job(round: u32, strategy: plan::Strategy) -> Aggregation {
    Aggregation {
        round: round_id(round, 1),
        layout: layout(PARAMETERS),
        chunk_bytes: CHUNK,
        updates: Updates::Clear(vec![(site(1), 1), (site(2), 3), (site(5), 64)]),
        strategy,
    }
}

async fn with_updates(round: u32, blobs: &Blobs) {
    for id in [1, 2, 5] {
        let name = BlobName::update(round_id(round, 1), site(id));
        store(blobs, &name, &vector(u32::from(id) + round)).await;
    }
}

fn mean(round: u32) -> Vec<f64> {
    let (a, b, c) = (vector(1 + round), vector(2 + round), vector(5 + round));
    (0..PARAMETERS)
        .map(|i| (f64::from(a[i]) + 3.0 * f64::from(b[i]) + 64.0 * f64::from(c[i])) / 68.0)
        .collect()
}

#[tokio::test]
async fn the_weighted_mean_moves_the_model_and_the_digest_is_that_of_its_bytes() {
    let blobs = in_memory();
    let start = vector(0);
    store(&blobs, &BlobName::version(round_id(1, 1).study, 0), &start).await;
    with_updates(1, &blobs).await;
    let mut job = job(1, plan::Strategy::FedAvg { learning_rate: 0.5 });
    let digest = job.run(&blobs).await.expect("sound updates");
    let next = load(&blobs, &BlobName::version(round_id(1, 1).study, 1)).await;
    let expected: Vec<f32> = start
        .iter()
        .zip(mean(1))
        .map(|(&x, delta)| (f64::from(x) + 0.5 * delta) as f32)
        .collect();
    assert_eq!(next, expected);
    let vector = ParameterVector::new(next).expect("finite");
    assert_eq!(digest, vector.digest(&job.layout));
}

#[tokio::test]
async fn doing_it_twice_gives_the_same_bytes() {
    let blobs = in_memory();
    store(
        &blobs,
        &BlobName::version(round_id(1, 1).study, 0),
        &vector(0),
    )
    .await;
    with_updates(1, &blobs).await;
    let mut job = job(
        1,
        plan::Strategy::FedAvgM {
            learning_rate: 1.0,
            momentum: 0.9,
        },
    );
    let first = job.run(&blobs).await.expect("sound updates");
    assert_eq!(job.run(&blobs).await.expect("sound updates"), first);
}

#[tokio::test]
async fn the_optimiser_goes_on_from_its_stored_state() {
    let blobs = in_memory();
    let adaptive = Adaptive {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        tau: 0.01,
    };
    let plan = plan::Strategy::FedAdam(adaptive);
    store(
        &blobs,
        &BlobName::version(round_id(1, 1).study, 0),
        &vector(0),
    )
    .await;
    let strategy = strategy::of(&plan);
    let mut state: Vec<_> = strategy
        .initial_state()
        .into_iter()
        .map(|start| vec![start; PARAMETERS])
        .collect();
    let mut model: Vec<f64> = vector(0).into_iter().map(f64::from).collect();
    for round in 1..=3 {
        with_updates(round, &blobs).await;
        job(round, plan).run(&blobs).await.expect("sound updates");
        strategy.apply(3, &mean(round), &mut model, &mut state);
        // A version is f32: what the next round starts from has been rounded.
        model
            .iter_mut()
            .for_each(|value| *value = f64::from(*value as f32));
    }
    let found = load(&blobs, &BlobName::version(round_id(1, 1).study, 3)).await;
    let expected: Vec<f32> = model.into_iter().map(|value| value as f32).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_step_that_overflows_names_its_position() {
    let blobs = in_memory();
    let mut start = vector(0);
    start[300] = f32::MAX;
    store(&blobs, &BlobName::version(round_id(1, 1).study, 0), &start).await;
    for id in [1, 2, 5] {
        let name = BlobName::update(round_id(1, 1), site(id));
        store(&blobs, &name, &[f32::MAX; PARAMETERS]).await;
    }
    let mut job = job(1, plan::Strategy::FedAvg { learning_rate: 0.5 });
    let error = job.run(&blobs).await.expect_err("an overflow");
    assert!(matches!(error, AggregationError::NotFinite(300)), "{error}");
    assert!(error.is_lasting());
}

#[tokio::test]
async fn an_update_that_is_gone_is_named() {
    let blobs = in_memory();
    store(
        &blobs,
        &BlobName::version(round_id(1, 1).study, 0),
        &vector(0),
    )
    .await;
    let mut job = job(1, plan::Strategy::default());
    let error = job.run(&blobs).await.expect_err("no updates");
    assert!(error.is_lasting());
    assert!(error.to_string().contains("1.1/1 is missing"), "{error}");
}
