//! `text`: a small transformer encoder with norms before each part (Xiong et al. 2020).

use super::{
    Architecture,
    activation::{gelu, sum_of},
    attention::Attention,
    blueprint::Blueprint,
    dense::Dense,
    embedding::Embedding,
    layer_norm::LayerNorm,
    pooling::average_positions,
    tape::{Tape, Value},
};

/// Sizes of the text encoder.
#[derive(Debug, Clone, Copy)]
pub struct TextSizes {
    /// Tokens in the vocabulary.
    pub tokens: usize,
    /// Tokens of a document.
    pub positions: usize,
    /// Features of a token; even, and a multiple of `heads`.
    pub features: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Features between the two dense layers of a block.
    pub hidden: usize,
    /// Blocks.
    pub blocks: usize,
}

impl Default for TextSizes {
    /// 1.4 million weights.
    fn default() -> Self {
        Self {
            tokens: 8192,
            positions: 128,
            features: 128,
            heads: 4,
            hidden: 512,
            blocks: 2,
        }
    }
}

/// Embedding, fixed places added, blocks, a norm.
struct Encoder {
    sizes: TextSizes,
    embedding: Embedding,
    /// `[positions][features]`: what marks the places.
    places: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

/// Norm and attention, then norm and two dense layers, each added to what came in.
#[derive(Clone, Copy)]
struct Block {
    norms: [LayerNorm; 2],
    /// Query, key, value, output.
    attention: [Dense; 4],
    heads: Attention,
    /// Up and down.
    dense: [Dense; 2],
}

/// The encoder, the mean over positions, dense outputs.
pub(super) struct Classifier {
    encoder: Encoder,
    head: Dense,
}

impl Classifier {
    pub(super) fn new(on: &mut Blueprint, sizes: TextSizes, classes: usize) -> Self {
        let encoder = Encoder::new(on, sizes);
        let head = Dense::last(on, "head", sizes.features, classes);
        Self { encoder, head }
    }
}

impl Architecture for Classifier {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let TextSizes {
            positions,
            features,
            ..
        } = self.encoder.sizes;
        let x = self.encoder.forward(input, tape);
        let x = average_positions(x, [positions, features], tape);
        self.head.forward(x, tape)
    }
}

impl Encoder {
    fn new(on: &mut Blueprint, sizes: TextSizes) -> Self {
        let TextSizes {
            tokens,
            positions,
            features,
            blocks,
            ..
        } = sizes;
        Self {
            sizes,
            embedding: Embedding::new(on, "embed", tokens, features),
            places: places(positions, features),
            blocks: (1..=blocks)
                .map(|at| Block::new(on, &format!("b{at}"), sizes))
                .collect(),
            norm: LayerNorm::new(on, "ln", positions, features),
        }
    }

    /// # Shapes
    /// - `input`: `[examples][positions]`, tokens
    /// - output: `[examples][positions][features]`
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let x = self.embedding.forward(input, tape);
        let places = tape.input(self.places.repeat(tape.examples));
        let mut x = sum_of(x, places, tape);
        for &block in &self.blocks {
            x = tape.stretch(x, move |x, tape| block.forward(x, tape));
        }
        self.norm.forward(x, tape)
    }
}

impl Block {
    fn new(on: &mut Blueprint, name: &str, sizes: TextSizes) -> Self {
        let TextSizes {
            positions,
            features,
            heads,
            hidden,
            ..
        } = sizes;
        let part = |part: &str| format!("{name}.{part}");
        let first = LayerNorm::new(on, &part("ln1"), positions, features);
        let attention = ["q", "k", "v", "o"]
            .map(|name| Dense::along(on, &part(name), positions, features, features));
        on.holds(heads * positions * positions);
        let second = LayerNorm::new(on, &part("ln2"), positions, features);
        let up = Dense::along(on, &part("up"), positions, features, hidden);
        let down = Dense::along(on, &part("down"), positions, hidden, features);
        Self {
            norms: [first, second],
            attention,
            heads: Attention {
                positions,
                features,
                heads,
            },
            dense: [up, down],
        }
    }

    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let [query, key, value, output] = &self.attention;
        let [up, down] = &self.dense;
        let x = self.norms[0].forward(input.again(), tape);
        let query = query.forward(x.again(), tape);
        let key = key.forward(x.again(), tape);
        let value = value.forward(x, tape);
        let x = self.heads.forward(query, key, value, tape);
        let x = sum_of(output.forward(x, tape), input, tape);
        let y = self.norms[1].forward(x.again(), tape);
        let y = gelu(up.forward(y, tape), tape);
        sum_of(down.forward(y, tape), x, tape)
    }
}

/// Sines and cosines of wavelengths from 2π to 10 000 · 2π (Vaswani et al. 2017).
fn places(positions: usize, features: usize) -> Vec<f32> {
    let place = |at: usize| {
        let (position, feature) = ((at / features) as f64, at % features);
        let frequency = 10_000_f64.powf(-((feature / 2 * 2) as f64) / features as f64);
        let angle = position * frequency;
        if feature % 2 == 0 {
            angle.sin() as f32
        } else {
            angle.cos() as f32
        }
    };
    (0..positions * features).map(place).collect()
}
