//! Public text encoders of the BERT kind: their weights as files in safetensors, and what they compute.
//!
//! Devlin et al. 2019, arXiv:1810.04805. A folder as public models come in holds `config.json` and
//! `model.safetensors`. What is read is checked against the configuration before anybody uses it: names,
//! shapes, number formats, and that every number is finite. Heads for tasks and the pooler are not read.

mod encoder;
mod public;

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use ring::digest;
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use serde::Deserialize;

pub(crate) use self::public::PublicEncoder;
pub use self::{
    encoder::{BertEncoder, EncodeError},
    public::PublicEncoderError,
};

/// Most bytes that a file with weights may have: enough for the large models in single precision.
pub const WEIGHTS_LIMIT: u64 = 2 << 30;

/// Most bytes that a configuration may have.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Sizes of an encoder. None is 0, and heads divide the hidden size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BertConfig {
    /// Numbers for each position.
    pub hidden: usize,
    /// Blocks of attention and dense layers.
    pub layers: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Numbers for each position between the two dense layers of a block.
    pub intermediate: usize,
    /// Most pieces of a text.
    pub positions: usize,
    /// Kinds of texts in a pair; texts alone are of the first.
    pub token_types: usize,
    /// Pieces that are known.
    pub vocabulary: usize,
    /// Added to variances before their root is divided by.
    pub layer_norm_eps: f32,
}

/// An encoder's weights, as many and as large as its sizes say; all finite.
#[derive(Clone)]
pub struct BertWeights {
    config: BertConfig,
    digest: [u8; 32],
    /// In the order of [`BertConfig::layout`].
    tensors: Vec<Vec<f32>>,
}

/// Why a folder holds no encoder.
#[derive(Debug, thiserror::Error)]
pub enum BertError {
    /// A file could not be read.
    #[error("could not read {}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than it may be.
    #[error("{} has more than {limit} bytes", file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
        /// How many it may have.
        limit: u64,
    },
    /// The configuration is not JSON, or lacks a size.
    #[error("{} is no configuration of an encoder", file.display())]
    Config {
        /// Which file.
        file: PathBuf,
        /// Why, and where.
        source: serde_json::Error,
    },
    /// The weights are not in the format of safetensors.
    #[error("{} is no safetensors file", file.display())]
    Format {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// A file says something that does not fit.
    #[error("{}: {reason}", file.display())]
    Unsound {
        /// Which file.
        file: PathBuf,
        /// What, and what would fit.
        reason: String,
    },
}

impl BertConfig {
    /// Names and shapes of the weights in the order in which they are kept: embeddings of pieces,
    /// positions and kinds, scale and shift of their normalisation; then for each block the weights and
    /// biases of query, key, value and attention's output, its normalisation, the two dense layers, and
    /// their normalisation. A dense layer's weights are `[outputs, inputs]`.
    pub fn layout(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, intermediate) = (self.hidden, self.intermediate);
        let mut layout = Vec::new();
        for (name, rows) in [
            ("word_embeddings", self.vocabulary),
            ("position_embeddings", self.positions),
            ("token_type_embeddings", self.token_types),
        ] {
            layout.push((format!("embeddings.{name}.weight"), vec![rows, hidden]));
        }
        let norm = |layout: &mut Vec<_>, name: String| {
            layout.push((format!("{name}.weight"), vec![hidden]));
            layout.push((format!("{name}.bias"), vec![hidden]));
        };
        let dense = |layout: &mut Vec<_>, name: String, outputs, inputs| {
            layout.push((format!("{name}.weight"), vec![outputs, inputs]));
            layout.push((format!("{name}.bias"), vec![outputs]));
        };
        norm(&mut layout, "embeddings.LayerNorm".into());
        for at in 0..self.layers {
            let block = format!("encoder.layer.{at}");
            for part in ["self.query", "self.key", "self.value", "output.dense"] {
                dense(
                    &mut layout,
                    format!("{block}.attention.{part}"),
                    hidden,
                    hidden,
                );
            }
            norm(&mut layout, format!("{block}.attention.output.LayerNorm"));
            dense(
                &mut layout,
                format!("{block}.intermediate.dense"),
                intermediate,
                hidden,
            );
            dense(
                &mut layout,
                format!("{block}.output.dense"),
                hidden,
                intermediate,
            );
            norm(&mut layout, format!("{block}.output.LayerNorm"));
        }
        layout
    }
}

impl BertWeights {
    /// Reads `config.json` and `model.safetensors` in a folder. Names may start with `bert.`, scale and
    /// shift of normalisations may be called `gamma` and `beta`; half precision becomes single.
    ///
    /// # Errors
    /// A file cannot be read or is too large, a size or a weight is missing or does not fit, or a
    /// weight is not finite.
    pub fn read(folder: &Path) -> Result<Self, BertError> {
        let file = folder.join("config.json");
        let text = read(&file, CONFIG_LIMIT)?;
        let parsed: ConfigFile =
            serde_json::from_slice(&text).map_err(|source| BertError::Config {
                file: file.clone(),
                source,
            })?;
        let config = parsed
            .check()
            .map_err(|reason| BertError::Unsound { file, reason })?;

        let file = folder.join("model.safetensors");
        let bytes = read(&file, WEIGHTS_LIMIT)?;
        let stored = SafeTensors::deserialize(&bytes).map_err(|source| BertError::Format {
            file: file.clone(),
            source,
        })?;
        let tensors = config
            .layout()
            .iter()
            .map(|(name, shape)| tensor(&stored, name, shape))
            .collect::<Result<_, _>>()
            .map_err(|reason| BertError::Unsound { file, reason })?;
        let mut digest = [0; 32];
        // SHA-256 has 32 bytes.
        digest.copy_from_slice(digest::digest(&digest::SHA256, &bytes).as_ref());
        Ok(Self {
            config,
            digest,
            tensors,
        })
    }

    /// The sizes.
    pub fn config(&self) -> BertConfig {
        self.config
    }

    /// SHA-256 of the file with the weights: what a plan names an encoder by.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The weights in the order of [`BertConfig::layout`], each row by row.
    pub fn tensors(&self) -> &[Vec<f32>] {
        &self.tensors
    }

    /// What a network that is trained on starts one of its tensors with, by name. It knows texts of the first
    /// kind alone, whose embedding is in that of the positions.
    pub(crate) fn starting(&self, name: &str) -> Option<Cow<'_, [f32]>> {
        let layout = self.config.layout();
        let at = |name: &str| layout.iter().position(|(known, _)| known == name);
        let tensor = |name: &str| at(name).and_then(|at| self.tensors.get(at));
        let found = tensor(name)?;
        if name != "embeddings.position_embeddings.weight" {
            return Some(found.into());
        }
        let kind = tensor("embeddings.token_type_embeddings.weight")?;
        let rows = found.chunks(self.config.hidden);
        let sums = rows.flat_map(|row| row.iter().zip(kind).map(|(place, kind)| place + kind));
        Some(sums.collect())
    }
}

/// Written by hand: millions of numbers help nobody.
impl std::fmt::Debug for BertWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BertWeights({:?})", self.config)
    }
}

/// What is read of `config.json`, by the names that public models use.
#[derive(Deserialize)]
struct ConfigFile {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    vocab_size: usize,
    layer_norm_eps: f32,
    hidden_act: String,
    position_embedding_type: Option<String>,
}

impl ConfigFile {
    fn check(self) -> Result<BertConfig, String> {
        for (name, size, most) in [
            ("hidden_size", self.hidden_size, 4_096),
            ("num_hidden_layers", self.num_hidden_layers, 64),
            ("num_attention_heads", self.num_attention_heads, 256),
            ("intermediate_size", self.intermediate_size, 16_384),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                8_192,
            ),
            ("type_vocab_size", self.type_vocab_size, 256),
            ("vocab_size", self.vocab_size, 1_000_000),
        ] {
            if !(1..=most).contains(&size) {
                return Err(format!("{name} has to be from 1 to {most}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err("num_attention_heads has to divide hidden_size".into());
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err("layer_norm_eps has to be above 0 and below 1".into());
        }
        if self.hidden_act != "gelu" {
            return Err("hidden_act has to be \"gelu\"".into());
        }
        if self
            .position_embedding_type
            .is_some_and(|kind| kind != "absolute")
        {
            return Err("position_embedding_type has to be \"absolute\"".into());
        }
        Ok(BertConfig {
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            intermediate: self.intermediate_size,
            positions: self.max_position_embeddings,
            token_types: self.type_vocab_size,
            vocabulary: self.vocab_size,
            layer_norm_eps: self.layer_norm_eps,
        })
    }
}

fn read(file: &Path, limit: u64) -> Result<Vec<u8>, BertError> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|source| BertError::Read {
            file: file.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > limit {
        return Err(BertError::TooLarge {
            file: file.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// One of the weights by its name, row by row.
fn tensor(stored: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let found = find(stored, name).ok_or_else(|| format!("there is no {name}"))?;
    if found.shape() != shape {
        let stored = found.shape();
        return Err(format!("{name} is {stored:?} and has to be {shape:?}"));
    }
    let values: Vec<f32> = match found.dtype() {
        Dtype::F32 => numbers(found.data(), f32::from_le_bytes),
        Dtype::F16 => numbers(found.data(), |bytes| half(u16::from_le_bytes(bytes))),
        Dtype::BF16 => numbers(found.data(), |[low, high]| {
            f32::from_le_bytes([0, 0, low, high])
        }),
        other => {
            return Err(format!(
                "{name} is {other:?} and has to be F32, F16 or BF16"
            ));
        }
    };
    if values.iter().any(|value| !value.is_finite()) {
        return Err(format!("{name} has a number that is not finite"));
    }
    Ok(values)
}

/// A tensor by one of the names under which public models have it.
fn find<'a>(stored: &SafeTensors<'a>, name: &str) -> Option<TensorView<'a>> {
    let older = name
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta");
    [name, &older].into_iter().find_map(|name| {
        let prefixed = || stored.tensor(&format!("bert.{name}"));
        stored.tensor(name).or_else(|_| prefixed()).ok()
    })
}

/// Numbers of `N` bytes each. That the bytes are as many as the shape says, the format has checked.
fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| number(bytes))
        .collect()
}

/// A number in half precision (IEEE 754 binary16).
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => f32::INFINITY,
        0x1f => f32::NAN,
        _ => (fraction + 1024.0) * 2f32.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests;
