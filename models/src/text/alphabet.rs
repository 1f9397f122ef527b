//! The numbers that stand for words where a network reads them in order.

use consilium_proto::plan::TextInput;

use super::{features::WORD_FEATURES, vocabulary::Vocabulary};

/// How the positions of a window are numbered. 0 stands for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alphabet {
    /// Numbers there are.
    pub(crate) tokens: usize,
    /// Numbers that a position is known by.
    pub(crate) slots: usize,
    /// Positions of a window.
    pub(crate) window: usize,
    /// What stands before the two entities of a pair; of no use to public encoders, which no plan asks for pairs.
    pub(crate) markers: [usize; 2],
}

/// Numbers before those of hashed features: nothing, and the two markers.
pub(crate) const RESERVED: usize = 3;

impl Alphabet {
    /// Of a text that is read in order; of a bag nothing is numbered. The numbers of a public encoder's pieces
    /// are its own.
    pub(crate) fn of(text: &TextInput) -> Self {
        match *text {
            TextInput::Words { window, buckets } => Self {
                tokens: RESERVED + buckets,
                slots: WORD_FEATURES,
                window,
                markers: [1, 2],
            },
            TextInput::Pieces { window } => {
                let vocabulary = Vocabulary::shipped();
                // The shipped vocabulary has its markers, as a test of it shows.
                let [first, _, second, _] = vocabulary.specials().entities.unwrap_or_default();
                Self {
                    tokens: vocabulary.len(),
                    slots: 1,
                    window,
                    markers: [first as usize, second as usize],
                }
            }
            TextInput::Encoder { window, .. } => Self {
                tokens: 1,
                slots: 1,
                window,
                markers: [0, 0],
            },
            TextInput::Bag { .. } => Self {
                tokens: 1,
                slots: 1,
                window: 0,
                markers: [0, 0],
            },
        }
    }
}
