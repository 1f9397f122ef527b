//! `bert`: a public encoder of the BERT kind (Devlin et al. 2019, arXiv:1810.04805), trained on from its weights.
//!
//! Blocks normalise behind each sum, positions are learnt. Tensors go by the names that public files use, so
//! that [`starting from one`](crate::start) is a matter of names. The embedding of positions is as long as the
//! plan's window and has that of the first kind of text in it, as windows are of no other kind.

use super::{
    activation::{gelu, sum_of},
    attention::Attention,
    blueprint::Blueprint,
    dense::Dense,
    embedding::Embedding,
    heads::Encoder,
    layer_norm::LayerNorm,
    lengths::Lengths,
    tape::{Tape, Value},
};

/// What BERT adds to variances.
pub(crate) const EPSILON: f32 = 1e-12;

/// Sizes of an encoder of the BERT kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct BertSizes {
    /// Pieces that are known.
    pub(super) vocabulary: usize,
    /// Pieces of a window.
    pub(super) positions: usize,
    /// Features of a piece, a multiple of `heads`.
    pub(super) features: usize,
    /// Heads of each attention.
    pub(super) heads: usize,
    /// Features between the two dense layers of a block.
    pub(super) hidden: usize,
    /// Blocks.
    pub(super) layers: usize,
}

/// Embeddings of pieces and positions, their norm, blocks.
pub(super) struct BertEncoder {
    sizes: BertSizes,
    pieces: Embedding,
    places: Embedding,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

/// Attention and two dense layers, each added to what came in and normalised.
#[derive(Clone, Copy)]
struct Block {
    /// Query, key, value, output.
    attention: [Dense; 4],
    heads: Attention,
    /// Up and down.
    dense: [Dense; 2],
    norms: [LayerNorm; 2],
}

impl BertEncoder {
    pub(super) fn new(on: &mut Blueprint, sizes: BertSizes) -> Self {
        let BertSizes {
            vocabulary,
            positions,
            features,
            layers,
            ..
        } = sizes;
        let table = |on: &mut Blueprint, name: &str, rows| {
            let name = format!("embeddings.{name}");
            Embedding::new(on, &name, [rows, features], 1, false)
        };
        let pieces = table(on, "word_embeddings", vocabulary);
        let places = table(on, "position_embeddings", positions);
        let norm = norm(on, "embeddings.LayerNorm", sizes);
        let blocks = (0..layers).map(|at| Block::new(on, at, sizes)).collect();
        Self {
            sizes,
            pieces,
            places,
            norm,
            blocks,
        }
    }
}

impl Encoder for BertEncoder {
    fn shape(&self) -> [usize; 2] {
        [self.sizes.positions, self.sizes.features]
    }

    fn forward(&self, input: Value, tape: &mut Tape) -> (Value, Lengths) {
        let positions = self.sizes.positions;
        let lengths = Lengths::of(&input, positions, 1);
        let each: Vec<f32> = (0..positions).map(|position| position as f32).collect();
        let places = tape.input(each.repeat(tape.examples));
        let places = self.places.forward(places, tape);
        let x = sum_of(self.pieces.forward(input, tape), places, tape);
        let mut x = self.norm.forward(x, tape);
        for &block in &self.blocks {
            let lengths = lengths.clone();
            x = tape.stretch(x, move |x, tape| block.forward(x, &lengths, tape));
        }
        (x, lengths)
    }
}

impl Block {
    fn new(on: &mut Blueprint, at: usize, sizes: BertSizes) -> Self {
        let BertSizes {
            positions,
            features,
            heads,
            hidden,
            ..
        } = sizes;
        let part = |part: &str| format!("encoder.layer.{at}.{part}");
        let dense = |on: &mut Blueprint, name: &str, inputs, outputs| {
            Dense::along(on, &part(name), positions, inputs, outputs)
        };
        let [query, key, value, output] = ["self.query", "self.key", "self.value", "output.dense"]
            .map(|name| dense(on, &format!("attention.{name}"), features, features));
        on.holds(heads * positions * positions);
        let first = norm(on, &part("attention.output.LayerNorm"), sizes);
        let up = dense(on, "intermediate.dense", features, hidden);
        let down = dense(on, "output.dense", hidden, features);
        let second = norm(on, &part("output.LayerNorm"), sizes);
        Self {
            attention: [query, key, value, output],
            heads: Attention {
                positions,
                features,
                heads,
            },
            dense: [up, down],
            norms: [first, second],
        }
    }

    fn forward(&self, input: Value, lengths: &Lengths, tape: &mut Tape) -> Value {
        let [query, key, value, output] = &self.attention;
        let [up, down] = &self.dense;
        let looked = [query, key, value].map(|layer| layer.forward(input.again(), tape));
        let x = self.heads.forward(looked, lengths, tape);
        let x = sum_of(output.forward(x, tape), input, tape);
        let x = self.norms[0].forward(x, tape);
        let y = gelu(up.forward(x.again(), tape), tape);
        let x = sum_of(down.forward(y, tape), x, tape);
        self.norms[1].forward(x, tape)
    }
}

fn norm(on: &mut Blueprint, name: &str, sizes: BertSizes) -> LayerNorm {
    LayerNorm::with_epsilon(on, name, [sizes.positions, sizes.features], EPSILON)
}
