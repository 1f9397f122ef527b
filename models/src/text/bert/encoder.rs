//! What an encoder of the BERT kind computes, written plainly: one text at a time, in single precision.
//!
//! For features that are computed once and for checking faster code. Blocks normalise behind the sum
//! (post-norm), positions are learnt, GELU is the exact one (Hendrycks and Gimpel 2016,
//! arXiv:1606.08415). Nothing is dropped, nothing is padded.

use super::{BertConfig, BertWeights};

/// An encoder with its weights.
#[derive(Debug, Clone)]
pub struct BertEncoder {
    weights: BertWeights,
}

/// Why a row of pieces cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// There are more than the encoder has positions for.
    #[error("{pieces} pieces are more than the encoder's {positions} positions")]
    TooLong {
        /// How many there are.
        pieces: usize,
        /// How many there may be.
        positions: usize,
    },
    /// A piece is none of the encoder's vocabulary.
    #[error("piece {at} is none of the encoder's vocabulary")]
    Unknown {
        /// Which one, from 0.
        at: usize,
    },
}

/// Rows of numbers, one for each position.
type Rows = Vec<Vec<f32>>;

impl BertEncoder {
    /// Encodes with these weights.
    pub fn new(weights: BertWeights) -> Self {
        Self { weights }
    }

    /// The sizes.
    pub fn config(&self) -> BertConfig {
        self.weights.config
    }

    /// The last block's vector for each piece. `ids` is all that the encoder sees: `[CLS]` and `[SEP]`
    /// around the text are for the caller to add.
    ///
    /// # Errors
    /// There are too many pieces, or one is unknown.
    pub fn encode(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>, EncodeError> {
        let config = self.weights.config;
        if ids.len() > config.positions {
            return Err(EncodeError::TooLong {
                pieces: ids.len(),
                positions: config.positions,
            });
        }
        let (embeddings, blocks) = self.weights.tensors.split_at(5);
        let [pieces, positions, kinds, scale, shift] = embeddings else {
            // The layout starts with these five.
            return Ok(Vec::new());
        };
        let kind = kinds.get(..config.hidden).unwrap_or_default();
        let mut rows = Rows::with_capacity(ids.len());
        for (at, (&id, position)) in ids.iter().zip(positions.chunks(config.hidden)).enumerate() {
            let start = id as usize * config.hidden;
            let piece = pieces.get(start..start + config.hidden);
            let piece = piece.ok_or(EncodeError::Unknown { at })?;
            let parts = piece.iter().zip(position).zip(kind);
            rows.push(
                parts
                    .map(|((piece, position), kind)| piece + position + kind)
                    .collect(),
            );
        }
        let norm = |rows: &mut Rows, scale: &[f32], shift: &[f32]| {
            for row in rows {
                normalise(row, scale, shift, config.layer_norm_eps);
            }
        };
        norm(&mut rows, scale, shift);
        for block in blocks.chunks_exact(16) {
            let [
                query,
                query_bias,
                key,
                key_bias,
                value,
                value_bias,
                output,
                output_bias,
                scale,
                shift,
                widen,
                widen_bias,
                narrow,
                narrow_bias,
                last_scale,
                last_shift,
            ] = block
            else {
                // A block has 16 in the layout.
                continue;
            };
            let mixed = attend(
                &dense(&rows, query, query_bias),
                &dense(&rows, key, key_bias),
                &dense(&rows, value, value_bias),
                config.heads,
            );
            add(&mut rows, &dense(&mixed, output, output_bias));
            norm(&mut rows, scale, shift);
            let mut wide = dense(&rows, widen, widen_bias);
            wide.iter_mut()
                .flatten()
                .for_each(|value| *value = gelu(*value));
            add(&mut rows, &dense(&wide, narrow, narrow_bias));
            norm(&mut rows, last_scale, last_shift);
        }
        Ok(rows)
    }

    /// The mean of [`encode`](Self::encode) over all pieces: one vector for the text. All 0 for none.
    ///
    /// # Errors
    /// There are too many pieces, or one is unknown.
    pub fn encode_mean(&self, ids: &[u32]) -> Result<Vec<f32>, EncodeError> {
        let rows = self.encode(ids)?;
        let mut mean = vec![0.0; self.weights.config.hidden];
        for row in &rows {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += value / rows.len() as f32;
            }
        }
        Ok(mean)
    }
}

/// Weights times row plus bias, for each row. `weights` is `[outputs, inputs]`.
fn dense(rows: &Rows, weights: &[f32], bias: &[f32]) -> Rows {
    let mut outputs = vec![Vec::with_capacity(bias.len()); rows.len()];
    // The rows of the weights are many and large, those of the text few: each of the weights is
    // fetched once.
    let inputs = weights.len() / bias.len().max(1);
    for (weights, bias) in weights.chunks(inputs.max(1)).zip(bias) {
        for (row, output) in rows.iter().zip(&mut outputs) {
            output.push(dot(row, weights) + bias);
        }
    }
    outputs
}

/// Each position's mean of all positions' values, weighed by how well its query fits their keys; for
/// each head apart.
fn attend(queries: &Rows, keys: &Rows, values: &Rows, heads: usize) -> Rows {
    let mut mixed = vec![Vec::new(); queries.len()];
    let size = queries.first().map_or(0, Vec::len) / heads.max(1);
    let root = (size as f32).sqrt();
    for head in 0..heads {
        let part = |row: &Vec<f32>| -> Vec<f32> {
            row.iter().skip(head * size).take(size).copied().collect()
        };
        let [queries, keys, values] =
            [queries, keys, values].map(|rows| rows.iter().map(part).collect::<Rows>());
        for (query, mixed) in queries.iter().zip(&mut mixed) {
            let mut weights: Vec<f32> = keys.iter().map(|key| dot(query, key) / root).collect();
            softmax(&mut weights);
            let mut mean = vec![0.0; size];
            for (weight, value) in weights.iter().zip(&values) {
                for (mean, value) in mean.iter_mut().zip(value) {
                    *mean += weight * value;
                }
            }
            mixed.extend(mean);
        }
    }
    mixed
}

/// Eight sums side by side: the compiler makes vector instructions of them.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for at in 0..8 {
            sums[at] += a[at] * b[at];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

fn add(rows: &mut Rows, others: &Rows) {
    for (row, other) in rows.iter_mut().zip(others) {
        for (value, other) in row.iter_mut().zip(other) {
            *value += other;
        }
    }
}

/// Mean 0 and variance 1, then scale and shift (Ba et al. 2016, arXiv:1607.06450).
fn normalise(row: &mut [f32], scale: &[f32], shift: &[f32], eps: f32) {
    let count = row.len() as f32;
    let mean = row.iter().sum::<f32>() / count;
    let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count;
    let deviation = (variance + eps).sqrt();
    for ((value, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
        *value = (*value - mean) / deviation * scale + shift;
    }
}

fn softmax(values: &mut [f32]) {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - most).exp();
        sum += *value;
    }
    values.iter_mut().for_each(|value| *value /= sum);
}

fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}
