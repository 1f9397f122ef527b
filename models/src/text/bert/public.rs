//! The public encoder that a plan names, as a site or a researcher has it: one folder, checked against the plan.

use std::path::Path;

use consilium_proto::{
    Digest, Plan,
    plan::{Network, TextInput},
};

use super::{BertConfig, BertError, BertWeights};
use crate::{
    network::bert::EPSILON,
    text::vocabulary::{Vocabulary, VocabularyError},
};

/// A public encoder with its vocabulary; both are those of the plan.
#[derive(Debug)]
pub(crate) struct PublicEncoder {
    pub(crate) weights: BertWeights,
    pub(crate) vocabulary: Vocabulary,
    /// Pieces of a text that it sees at once.
    pub(crate) window: usize,
}

/// Why a plan's public encoder is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum PublicEncoderError {
    /// The plan's text has no encoder.
    #[error("the plan names no public encoder")]
    NotAsked,
    /// The plan's encoder is a file that every site has to have.
    #[error(
        "the plan reads notes with a public encoder: name its folder in `text_encoder` of the agent's \
         configuration, or with --text-encoder"
    )]
    NoFolder,
    /// The folder holds another encoder.
    #[error("the encoder's file has SHA-256 {found}, the plan asks for {expected}")]
    Other {
        /// Of the plan.
        expected: String,
        /// Of the file.
        found: String,
    },
    /// The encoder has another size than the plan says.
    #[error("the encoder's `config.json` says {field} = {found}, the plan asks for {expected}")]
    OtherSize {
        /// Which size, as the configuration calls it.
        field: &'static str,
        /// Of the plan.
        expected: String,
        /// Of the encoder.
        found: String,
    },
    /// The vocabulary is not that of the encoder.
    #[error("the encoder's vocabulary has {found} pieces, its weights are for {expected}")]
    OtherVocabulary {
        /// Of the weights.
        expected: usize,
        /// Of the vocabulary.
        found: usize,
    },
    /// Windows end in zeros.
    #[error(
        "the encoder's `[PAD]` is piece {0}: only one whose `[PAD]` is piece 0 can be trained on"
    )]
    Padding(u32),
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] BertError),
    /// The vocabulary cannot be used.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
}

impl PublicEncoder {
    /// Reads `config.json`, `model.safetensors` and the vocabulary in a folder.
    ///
    /// # Errors
    /// A plan that asks for none, no folder, files that cannot be used, another encoder than the plan's.
    pub(crate) fn open(plan: &Plan, folder: Option<&Path>) -> Result<Self, PublicEncoderError> {
        let Some(TextInput::Encoder {
            sha256,
            width,
            window,
        }) = &plan.text
        else {
            return Err(PublicEncoderError::NotAsked);
        };
        let folder = folder.ok_or(PublicEncoderError::NoFolder)?;
        let weights = BertWeights::read(folder)?;
        let found = Digest::from(weights.digest()).to_string();
        if found != *sha256 {
            let expected = sha256.clone();
            return Err(PublicEncoderError::Other { expected, found });
        }
        let config = weights.config();
        check(plan, *width, *window, config)?;

        let file = ["tokenizer.json", "vocab.txt"].map(|name| folder.join(name));
        let file = file.iter().find(|file| file.is_file()).unwrap_or(&file[1]);
        let vocabulary = Vocabulary::from_file(file)?;
        if vocabulary.len() != config.vocabulary {
            return Err(PublicEncoderError::OtherVocabulary {
                expected: config.vocabulary,
                found: vocabulary.len(),
            });
        }
        let padding = vocabulary.specials().padding;
        if plan.reads_windows() && padding != 0 {
            return Err(PublicEncoderError::Padding(padding));
        }
        Ok(Self {
            weights,
            vocabulary,
            window: (*window).min(config.positions),
        })
    }
}

/// Whether the sizes are those of the plan. A network that is trained on has all of them in the plan, so that
/// the coordinator knows its layout without the file.
fn check(
    plan: &Plan,
    width: usize,
    window: usize,
    config: BertConfig,
) -> Result<(), PublicEncoderError> {
    let same = |field, expected: usize, found: usize| match expected == found {
        true => Ok(()),
        false => Err(PublicEncoderError::OtherSize {
            field,
            expected: expected.to_string(),
            found: found.to_string(),
        }),
    };
    same("hidden_size", width, config.hidden)?;
    let Network::Bert {
        layers,
        heads,
        hidden,
        vocabulary,
    } = plan.network
    else {
        return Ok(());
    };
    same("num_hidden_layers", layers, config.layers)?;
    same("num_attention_heads", heads, config.heads)?;
    same("intermediate_size", hidden, config.intermediate)?;
    same("vocab_size", vocabulary, config.vocabulary)?;
    let other = |field, expected: String, found: String| PublicEncoderError::OtherSize {
        field,
        expected,
        found,
    };
    if window > config.positions {
        let (expected, found) = (format!("{window} or more"), config.positions.to_string());
        return Err(other("max_position_embeddings", expected, found));
    }
    if config.layer_norm_eps != EPSILON {
        let (expected, found) = (
            format!("{EPSILON:e}"),
            format!("{:e}", config.layer_norm_eps),
        );
        return Err(other("layer_norm_eps", expected, found));
    }
    Ok(())
}
