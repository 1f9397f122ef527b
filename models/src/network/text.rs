//! `text`: a small transformer encoder with norms before each part (Xiong et al. 2020).
//!
//! Every position may be known by several numbers, whose embeddings are added, and be seen with its
//! neighbours before the blocks. A text that is shorter than the window ends in zeros, which nothing looks at.

use super::{
    activation::{gelu, sum_of},
    attention::Attention,
    blueprint::Blueprint,
    dense::Dense,
    embedding::Embedding,
    heads::Encoder,
    layer_norm::LayerNorm,
    lengths::Lengths,
    positions::neighbours,
    tape::{Tape, Value},
};

/// Sizes of the text encoder.
#[derive(Debug, Clone, Copy)]
pub struct TextSizes {
    /// Numbers that stand for something: a vocabulary, or places of hashed features.
    pub tokens: usize,
    /// Positions of a window.
    pub positions: usize,
    /// Numbers that a position is known by.
    pub slots: usize,
    /// Whether number 0 stands for nothing, and a window may end in it.
    pub is_padded: bool,
    /// Features of a position; even, and a multiple of `heads`.
    pub features: usize,
    /// Neighbours on either side that a position is seen with before the blocks.
    pub reach: usize,
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
            slots: 1,
            is_padded: false,
            features: 128,
            reach: 0,
            heads: 4,
            hidden: 512,
            blocks: 2,
        }
    }
}

/// Embedding, neighbours, fixed places added, blocks, a norm.
pub(super) struct TextEncoder {
    sizes: TextSizes,
    embedding: Embedding,
    near: Option<Dense>,
    /// `[positions][features]`: what marks the places; of no use without blocks.
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

impl TextEncoder {
    pub(super) fn new(on: &mut Blueprint, sizes: TextSizes) -> Self {
        let TextSizes {
            tokens,
            positions,
            slots,
            is_padded,
            features,
            reach,
            blocks,
            ..
        } = sizes;
        let embedding = Embedding::new(on, "embed", [tokens, features], slots, is_padded);
        let near = (reach > 0).then(|| {
            let around = (2 * reach + 1) * features;
            Dense::along(on, "near", positions, around, features)
        });
        Self {
            sizes,
            embedding,
            near,
            places: places(positions, features),
            blocks: (1..=blocks)
                .map(|at| Block::new(on, &format!("b{at}"), sizes))
                .collect(),
            norm: LayerNorm::new(on, "ln", positions, features),
        }
    }
}

impl Encoder for TextEncoder {
    fn shape(&self) -> [usize; 2] {
        [self.sizes.positions, self.sizes.features]
    }

    fn forward(&self, input: Value, tape: &mut Tape) -> (Value, Lengths) {
        let TextSizes {
            positions, slots, ..
        } = self.sizes;
        let lengths = match self.sizes.is_padded {
            true => Lengths::of(&input, positions, slots),
            false => Lengths::whole(&input, positions, tape.examples),
        };
        let mut x = self.embedding.forward(input, tape);
        if let Some(near) = &self.near {
            let around = neighbours(x, self.shape(), self.sizes.reach, tape);
            x = gelu(near.forward(around, tape), tape);
        }
        if !self.blocks.is_empty() {
            let places = tape.input(self.places.repeat(tape.examples));
            x = sum_of(x, places, tape);
        }
        for &block in &self.blocks {
            let lengths = lengths.clone();
            x = tape.stretch(x, move |x, tape| block.forward(x, &lengths, tape));
        }
        (self.norm.forward(x, tape), lengths)
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

    fn forward(&self, input: Value, lengths: &Lengths, tape: &mut Tape) -> Value {
        let [query, key, value, output] = &self.attention;
        let [up, down] = &self.dense;
        let x = self.norms[0].forward(input.again(), tape);
        let query = query.forward(x.again(), tape);
        let key = key.forward(x.again(), tape);
        let value = value.forward(x, tape);
        let x = self.heads.forward([query, key, value], lengths, tape);
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
