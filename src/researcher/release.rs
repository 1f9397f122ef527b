//! The finished model of a study: card and file, believed by the coordinator's signature.

use anyhow::{Context as _, Result};
use consilium_coordinator::{ModelCard, to_safetensors};
use consilium_proto::{Digest, ErrorCode, ModelDigest, Roster, Signed, wire};

use super::{Researcher, Study};
use crate::failure::{Classify as _, refuse, refused_call};

/// A model that was released, with its signed card.
pub struct Release {
    /// The card, checked.
    pub card: ModelCard,
    /// The card's bytes with their signature.
    pub signed: Signed,
    /// The safetensors file, which the card names by its digest.
    pub file: Vec<u8>,
}

impl Researcher {
    /// Fetches what a finished study released and checks signature, weights and file.
    ///
    /// # Errors
    /// The study has not finished, the card is not by a coordinator of the roster, or the bytes
    /// are not those that it names.
    pub async fn release(&mut self, study: &Study) -> Result<Release> {
        let release = self.studies.release(wire::StudyRef::from(study.id)).await;
        let release = release.map_err(refused_call)?.into_inner();
        let digest = ModelDigest::try_from(release.model_digest.as_slice())?;
        let signed = release
            .card
            .context("the release has no card")
            .classify(ErrorCode::Internal)?;
        let signed = Signed::try_from(signed)?;
        let card = believe(&signed, &self.roster().await?)?;
        if card.study != study.id || card.model_digest != digest {
            return refuse(
                ErrorCode::Denied,
                "the model card is about another study or model",
            );
        }
        let vector = self.download(study, digest).await?;
        let file = to_safetensors(&study.layout, &vector);
        if Digest::plain(&file) != card.safetensors_sha256 {
            return refuse(
                ErrorCode::Denied,
                "the model file is not the one that its card names",
            );
        }
        Ok(Release { card, signed, file })
    }
}

/// Reads a card that a coordinator of the roster signed, whether or not it still is one.
fn believe(signed: &Signed, roster: &Roster) -> Result<ModelCard> {
    let is_signer = |member: &&consilium_proto::Member| {
        member.role == consilium_proto::Role::Coordinator && member.identity_key == *signed.signer()
    };
    let Some(coordinator) = roster.members().find(is_signer) else {
        let message = "the model card is not signed by a coordinator of the roster";
        return refuse(ErrorCode::Denied, message);
    };
    ModelCard::open(signed, &coordinator.identity_key).classify(ErrorCode::Denied)
}
