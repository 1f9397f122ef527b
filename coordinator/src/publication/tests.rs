use safetensors::{Dtype, SafeTensors};

use super::*;
use crate::{
    blobs::tests::in_memory,
    fixture::{layout, plan, record, signer},
    round::{self, Receipt, Round},
    study::{Input, Verdict},
};

fn vector() -> ParameterVector {
    ParameterVector::new(vec![1.0, -2.0, 3.5, 0.25, 7.0]).expect("finite")
}

#[test]
fn the_file_reads_as_safetensors_with_the_layouts_names_and_shapes() {
    let file = to_safetensors(&layout(5), &vector());
    let read = SafeTensors::deserialize(&file).expect("the format");
    let weight = read.tensor("weight").expect("a tensor of that name");
    assert_eq!((weight.dtype(), weight.shape()), (Dtype::F32, &[4][..]));
    let values: Vec<u8> = vector().as_slice()[..4]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    assert_eq!(weight.data(), values);
    let bias = read.tensor("bias").expect("a tensor of that name");
    assert_eq!(
        (bias.shape(), bias.data()),
        (&[][..], &7.0_f32.to_le_bytes()[..])
    );
}

#[test]
fn names_that_json_must_escape_survive() {
    let name = "a \"quoted\" \\ name\n北京".to_owned();
    let tensor = consilium_proto::TensorSpec {
        name: name.clone(),
        shape: vec![5],
    };
    let layout = Layout::new(vec![tensor]).expect("a sound layout");
    let file = to_safetensors(&layout, &vector());
    let read = SafeTensors::deserialize(&file).expect("the format");
    assert_eq!(read.names(), [&name]);
}

fn contribution(site: u32, epsilon: f64) -> wire::Contribution {
    wire::Contribution {
        site,
        name: format!("site {site}"),
        weight: site,
        charge: Some(wire::Charge {
            sequence: 1,
            sampling_rate: 0.1,
            noise_multiplier: 1.0,
            clipping_norm: 1.0,
            steps: 1,
            epsilon,
            delta: 1e-5,
        }),
    }
}

#[tokio::test]
async fn a_card_holds_the_digest_of_the_file_and_what_every_site_spent() {
    let blobs = in_memory();
    let mut record = record(plan(1, 1));
    let model = vector().digest(&record.layout);
    finish(&mut record, model);
    let name = BlobName::version(record.study.id(), 1);
    blobs
        .write(&name, 0, &vector().to_bytes())
        .await
        .expect("memory");
    let version = |number, contributions| wire::Version {
        sums: None,
        number,
        model_digest: model.as_bytes().to_vec(),
        published_at: 1_800_000_060_000,
        contributions,
    };
    let versions = [
        version(0, vec![]),
        version(1, vec![contribution(1, 2.5), contribution(2, 1.5)]),
    ];
    let coordinator = signer();
    let (released, signed) = card_of(&record, &versions, &blobs, &coordinator)
        .await
        .expect("a stored model");
    assert_eq!(released, model);
    let card = ModelCard::open(&signed, &coordinator.public_key()).expect("its own signature");
    let file = to_safetensors(&record.layout, &vector());
    assert_eq!(card.safetensors_sha256, Digest::plain(&file));
    assert_eq!(card.sites[0].epsilon, Some(2.5));
    assert_eq!((card.sites[1].weight, card.sites[1].rounds), (Some(2), 1));
    assert!(!card.secure_aggregation);
    assert!(card.intended_use.starts_with("Research use only"));
    assert_eq!(card.published_at, "2027-01-15T08:01:00Z");
    assert_eq!(card.privacy["guarantee"], "none");
    assert!(ModelCard::open(&signed, &signer().public_key()).is_err());
}

/// Moves a study of one site and one round to its end.
fn finish(record: &mut StudyRecord, model: ModelDigest) {
    use crate::fixture::{NOW, site, sites, spec};
    let study = &mut record.study;
    let verdict = Verdict {
        approved: true,
        reason: String::new(),
    };
    let active = sites([1]).into_iter().collect();
    let receipt = Receipt {
        update: model,
        weight: Some(1),
    };
    let id = study.next();
    let spec = consilium_proto::RoundSpec {
        round: id,
        ..spec(sites([1]), 1)
    };
    for input in [
        Input::Decided {
            site: site(1),
            verdict,
            active,
        },
        Input::Drawn(Round::open(&spec, std::time::Duration::ZERO)),
        Input::Round(
            id,
            round::Input::UpdateStored {
                site: site(1),
                receipt,
            },
        ),
        Input::Round(id, round::Input::Aggregated { model }),
    ] {
        study.handle(input, NOW).expect("in order");
    }
}
