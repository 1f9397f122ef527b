//! A text, or a pair of its entities, as one vector.

use super::{Candidate, ReadingError, pairs};
use crate::text::{
    Note,
    bag::Bag,
    bert::{BertEncoder, PublicEncoder},
    cleaning::Cleaned,
    features::Buckets,
    vocabulary::Vocabulary,
    words::Filter,
};

/// Makes vectors: of hashed words, or by a public encoder.
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
    pub(super) fn of_encoder(public: PublicEncoder) -> Self {
        Self::Encoder {
            vocabulary: public.vocabulary,
            window: public.window,
            encoder: Box::new(BertEncoder::new(public.weights)),
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
