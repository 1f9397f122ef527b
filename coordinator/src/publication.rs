//! What becomes of the last version: a safetensors file anybody can build, and a signed card.
//!
//! The coordinator keeps and serves vectors. The safetensors file is a header made from the layout
//! followed by the vector's bytes, so whoever downloads the vector builds the very file whose
//! digest the card holds.

use std::collections::BTreeMap;

use consilium_proto::{
    ChunkPlan, Digest, Layout, LayoutDigest, ModelDigest, ParameterVector, PlanDigest, PublicKey,
    Signed, Signer, StudyId, plan::Privacy, signed::Purpose, wire,
};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    aggregation::AggregationError,
    blobs::{BlobName, Blobs},
    clock::Timestamp,
    store::StudyRecord,
};

/// The file of a model: the safetensors format with tensors in the order of the layout. The same
/// vector gives the same bytes everywhere.
pub fn to_safetensors(layout: &Layout, vector: &ParameterVector) -> Vec<u8> {
    let mut file = safetensors_header(layout);
    file.extend(vector.to_bytes());
    file
}

/// Length and JSON, padded with blanks so that the data begins at a multiple of 8.
fn safetensors_header(layout: &Layout) -> Vec<u8> {
    let mut entries = vec![];
    for (tensor, range) in layout.ranges() {
        let entry = json!({
            "dtype": "F32",
            "shape": tensor.shape,
            "data_offsets": [4 * range.start, 4 * range.end],
        });
        entries.push(format!("{}:{entry}", Value::from(tensor.name.as_str())));
    }
    let mut header = format!("{{{}}}", entries.join(","));
    let padded = header.len().next_multiple_of(8);
    header.extend(std::iter::repeat_n(' ', padded - header.len()));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

/// What a released model says about itself. Nothing in it depends on a patient beyond what the
/// guarantee of each site covers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// Format of this card: 1.
    pub card_version: u32,
    /// What the model may be used for.
    pub intended_use: String,
    /// Which study made it.
    pub study: StudyId,
    /// What people call the study.
    pub name: String,
    /// The plan that the sites approved.
    pub plan_digest: PlanDigest,
    /// Its layout.
    pub layout_digest: LayoutDigest,
    /// The vector of weights.
    pub model_digest: ModelDigest,
    /// `sha256sum` of the safetensors file.
    pub safetensors_sha256: Digest,
    /// Rounds published.
    pub rounds: u32,
    /// Who contributed, with what weight and at what privacy cost, as each site stated it.
    pub sites: Vec<CardSite>,
    /// Privacy that the plan asked for.
    pub privacy: Value,
    /// Whether the coordinator saw only sums.
    pub secure_aggregation: bool,
    /// How updates moved the model.
    pub strategy: Value,
    /// When the study was submitted, RFC 3339 in UTC.
    pub submitted_at: String,
    /// When the last version was published, RFC 3339 in UTC.
    pub published_at: String,
    /// Who signs this card.
    pub coordinator: String,
}

/// One site on a card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardSite {
    /// Member number.
    pub site: u32,
    /// What people call it.
    pub name: String,
    /// Rounds that hold an update of it.
    pub rounds: u32,
    /// Bucket of its public size in the last of them, 1 to 64; none where only the sum of weights is
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// ε over the whole study, by the site's ledger; none without privacy.
    pub epsilon: Option<f64>,
    /// δ at which it holds; none without privacy.
    pub delta: Option<f64>,
}

impl ModelCard {
    /// Reads a card that this coordinator signed.
    ///
    /// # Errors
    /// A broken signature or a body that is no card.
    pub fn open(signed: &Signed, coordinator: &PublicKey) -> Result<Self, CardError> {
        let body = signed.verify(Purpose::ModelCard, coordinator)?;
        Ok(serde_json::from_slice(body)?)
    }

    fn sign(&self, coordinator: &Signer) -> Result<Signed, CardError> {
        Ok(coordinator.sign(Purpose::ModelCard, serde_json::to_vec_pretty(self)?))
    }
}

/// Why a card is not believed, or not written.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// Signed by somebody else, or changed.
    #[error("model card not believed")]
    Signature(#[from] consilium_proto::signed::SignatureError),
    /// Not a card.
    #[error("the model card cannot be read or written")]
    Form(#[from] serde_json::Error),
    /// The model's bytes cannot be read.
    #[error("the model cannot be read")]
    Model(#[from] AggregationError),
}

/// Writes and signs the card of a study's last version.
///
/// # Errors
/// The version's blob cannot be read.
pub async fn card_of(
    record: &StudyRecord,
    versions: &[wire::Version],
    blobs: &Blobs,
    coordinator: &Signer,
) -> Result<(ModelDigest, Signed), CardError> {
    let number = record.study.version();
    let last = versions.iter().find(|version| version.number == number);
    let digest = last.map_or(&[][..], |last| &last.model_digest);
    let model_digest = ModelDigest::try_from(digest).map_err(AggregationError::Form)?;
    let published_at = Timestamp(last.map_or(0, |last| last.published_at));
    let card = ModelCard {
        card_version: 1,
        intended_use: "Research use only. Not a medical device, not for diagnosis.".into(),
        study: record.study.id(),
        name: record.plan.name.clone(),
        plan_digest: record.plan_digest(),
        layout_digest: record.layout.digest(),
        model_digest,
        safetensors_sha256: safetensors_digest(record, number, blobs).await?,
        rounds: number,
        sites: sites_of(versions),
        privacy: privacy_of(&record.plan.privacy)?,
        secure_aggregation: record.plan.secure_aggregation,
        strategy: serde_json::to_value(record.plan.strategy)?,
        submitted_at: date(record.submitted_at),
        published_at: date(published_at),
        coordinator: coordinator.public_key().to_string(),
    };
    Ok((model_digest, card.sign(coordinator)?))
}

fn date(at: Timestamp) -> String {
    humantime::format_rfc3339_seconds(at.to_system_time()).to_string()
}

fn privacy_of(privacy: &Privacy) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(privacy)?;
    if privacy.guarantee().is_none() {
        let warning = Map::from_iter([("guarantee".to_owned(), Value::from("none"))]);
        value
            .as_object_mut()
            .into_iter()
            .for_each(|fields| fields.extend(warning.clone()));
    }
    Ok(value)
}

fn sites_of(versions: &[wire::Version]) -> Vec<CardSite> {
    let mut sites = BTreeMap::new();
    for contribution in versions.iter().flat_map(|version| &version.contributions) {
        let site = sites.entry(contribution.site).or_insert_with(|| CardSite {
            site: contribution.site,
            name: contribution.name.clone(),
            rounds: 0,
            weight: None,
            epsilon: None,
            delta: None,
        });
        site.rounds += 1;
        site.weight = (contribution.weight > 0).then_some(contribution.weight);
        if let Some(charge) = &contribution.charge {
            site.epsilon = Some(charge.epsilon);
            site.delta = Some(charge.delta);
        }
    }
    sites.into_values().collect()
}

async fn safetensors_digest(
    record: &StudyRecord,
    number: u32,
    blobs: &Blobs,
) -> Result<Digest, AggregationError> {
    let bytes = 4 * record.layout.parameters() as u64;
    let chunks = ChunkPlan::new(bytes, record.chunk_bytes)?;
    let mut context = Context::new(&SHA256);
    context.update(&safetensors_header(&record.layout));
    let name = BlobName::version(record.study.id(), number);
    for index in 0..chunks.count() {
        context.update(&blobs.read(&name, index).await?);
    }
    Ok(Digest::try_from(context.finish().as_ref())?)
}

#[cfg(test)]
mod tests;
