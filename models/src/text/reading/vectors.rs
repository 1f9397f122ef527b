//! A text, or a pair of its entities, as one vector.

use std::path::Path;

use consilium_proto::plan::TextInput;

use super::{Candidate, ReadingError, pairs};
use crate::text::{
    Note,
    bag::Bag,
    bert::{BertEncoder, BertWeights},
    cleaning::Cleaned,
    features::Buckets,
    vocabulary::Vocabulary,
    words::Filter,
};

/// Makes vectors as a plan asks for them.
pub(super) enum Vectors {
    Bag {
        bag: Bag,
        filter: Filter,
        buckets: Buckets,
    },
    Encoder {
        encoder: Box<BertEncoder>,
        vocabulary: Vocabulary,
        window: usize,
    },
}

impl Vectors {
    pub(super) fn new(text: &TextInput, folder: Option<&Path>) -> Result<Self, ReadingError> {
        match text {
            &TextInput::Bag {
                buckets,
                neighbours,
                letters,
                first_sentence,
                drop_stop_words,
                drop_punctuation,
            } => {
                let buckets = Buckets::at_most(buckets);
                Ok(Self::Bag {
                    bag: Bag::new(buckets)
                        .with_neighbours(neighbours)
                        .with_letters(letters)
                        .with_first_sentence(first_sentence),
                    filter: Filter {
                        stop_words: drop_stop_words,
                        punctuation: drop_punctuation,
                    },
                    buckets,
                })
            }
            TextInput::Encoder {
                sha256,
                width,
                window,
            } => {
                let folder = folder.ok_or(ReadingError::NoEncoder)?;
                let weights = BertWeights::read(folder)?;
                let found: String = (weights.digest().iter())
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                if found != *sha256 {
                    return Err(ReadingError::OtherEncoder {
                        expected: sha256.clone(),
                        found,
                    });
                }
                let encoder = BertEncoder::new(weights);
                let hidden = encoder.config().hidden;
                if hidden != *width {
                    return Err(ReadingError::OtherWidth {
                        expected: *width,
                        found: hidden,
                    });
                }
                let file = ["tokenizer.json", "vocab.txt"]
                    .map(|name| folder.join(name))
                    .into_iter()
                    .find(|file| file.is_file());
                let file = file.unwrap_or_else(|| folder.join("vocab.txt"));
                Ok(Self::Encoder {
                    vocabulary: Vocabulary::from_file(&file)?,
                    window: (*window).min(encoder.config().positions),
                    encoder: Box::new(encoder),
                })
            }
            TextInput::Words { .. } | TextInput::Pieces { .. } => Err(ReadingError::NoText),
        }
    }

    /// Numbers of a vector.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Bag { buckets, .. } => buckets.count(),
            Self::Encoder { encoder, .. } => encoder.config().hidden,
        }
    }

    /// # Errors
    /// An encoder that cannot read it.
    pub(super) fn of(&self, text: &str) -> Result<Vec<f32>, ReadingError> {
        let cleaned = Cleaned::new(text);
        match self {
            Self::Bag { bag, filter, .. } => Ok(bag.of(cleaned.text(), *filter)),
            Self::Encoder {
                encoder,
                vocabulary,
                window,
            } => {
                let specials = vocabulary.specials();
                let pieces = vocabulary.pieces(cleaned.text());
                let inner = pieces
                    .iter()
                    .map(|piece| piece.id)
                    .take(window.saturating_sub(2));
                let ids: Vec<u32> = [specials.class]
                    .into_iter()
                    .chain(inner)
                    .chain([specials.separator])
                    .collect();
                Ok(encoder.encode_mean(&ids)?)
            }
        }
    }

    /// What is known of a pair, by feature; an encoder knows nothing of pairs, and plans do not ask it.
    pub(super) fn of_pair(&self, note: &Note, candidate: &Candidate) -> Vec<f32> {
        match self {
            Self::Bag { buckets, .. } => pairs::vector(note, candidate, *buckets),
            Self::Encoder { encoder, .. } => vec![0.0; encoder.config().hidden],
        }
    }
}
