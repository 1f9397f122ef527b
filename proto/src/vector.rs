//! A flat vector of parameters, finite by construction.

use std::fmt;

use crate::{Digest, Layout, ModelDigest, OutOfRange, digest::Hasher};

/// All parameters of a model, or a difference of two, in the order of a [`Layout`]; finite.
///
/// Its `Debug` shows the length alone: weights never reach a log.
#[derive(Clone, PartialEq)]
pub struct ParameterVector(Vec<f32>);

impl ParameterVector {
    /// Checks that every value is finite.
    ///
    /// # Errors
    /// Names the first position that holds NaN or an infinity.
    pub fn new(values: Vec<f32>) -> Result<Self, OutOfRange> {
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(Self(values)),
            Some(at) => {
                let found = format!("NaN or infinity at position {at}");
                Err(OutOfRange::new("parameter", "finite", found))
            }
        }
    }

    /// Zeros, as many as the layout has parameters.
    pub fn zeros(layout: &Layout) -> Self {
        Self(vec![0.0; layout.parameters()])
    }

    /// Reads little-endian IEEE 754 words.
    ///
    /// # Errors
    /// A length that does not fit the layout, or a value that is not finite.
    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, OutOfRange> {
        let values = words(bytes)?;
        if values.len() != layout.parameters() {
            let found = format!("{} parameters for {}", values.len(), layout.parameters());
            return Err(OutOfRange::new("vector", "as long as its layout", found));
        }
        Self::new(values)
    }

    /// Writes little-endian IEEE 754 words.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    /// The values.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Gives the values away.
    pub fn into_vec(self) -> Vec<f32> {
        self.0
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no parameter.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length in the Euclidean norm, computed in f64.
    pub fn l2_norm(&self) -> f64 {
        self.0
            .iter()
            .map(|&value| f64::from(value).powi(2))
            .sum::<f64>()
            .sqrt()
    }

    /// Its identity together with the layout's.
    pub fn digest(&self, layout: &Layout) -> ModelDigest {
        let mut hasher = ModelHasher::new(layout);
        hasher.update(&self.to_bytes());
        hasher.finish()
    }
}

impl fmt::Debug for ParameterVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParameterVector({} parameters)", self.0.len())
    }
}

/// Digests the bytes of a vector that arrives in pieces.
pub struct ModelHasher(Hasher);

impl ModelHasher {
    /// Starts with the layout's identity.
    pub fn new(layout: &Layout) -> Self {
        let mut hasher = Hasher::new("consilium/model/1");
        hasher.update(layout.digest().as_bytes());
        Self(hasher)
    }

    /// Takes more bytes of the vector.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The identity of the vector.
    pub fn finish(self) -> ModelDigest {
        let digest: Digest = self.0.finish();
        ModelDigest(digest)
    }
}

/// Reads little-endian IEEE 754 words, finite or not.
///
/// # Errors
/// A length that is no multiple of 4.
pub fn words(bytes: &[u8]) -> Result<Vec<f32>, OutOfRange> {
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        let found = format!("{} bytes", bytes.len());
        return Err(OutOfRange::new("vector", "a multiple of 4 bytes", found));
    }
    Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorSpec;

    #[test]
    fn a_vector_reads_back_the_bytes_it_writes() {
        let layout = Layout::new(vec![TensorSpec {
            name: "w".into(),
            shape: vec![3],
        }])
        .expect("a sound layout");
        let vector = ParameterVector::new(vec![1.5, -0.0, f32::MIN_POSITIVE]).expect("finite");
        let again = ParameterVector::from_bytes(&vector.to_bytes(), &layout).expect("its bytes");
        assert_eq!(vector.digest(&layout), again.digest(&layout));
        assert!(ParameterVector::from_bytes(&[0; 8], &layout).is_err());
        assert!(ParameterVector::from_bytes(&[0; 11], &layout).is_err());
    }

    #[test]
    fn not_a_number_and_infinities_are_refused_with_their_position() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = ParameterVector::new(vec![0.0, bad]).expect_err("not finite");
            assert!(error.to_string().contains("position 1"), "{error}");
        }
    }
}
