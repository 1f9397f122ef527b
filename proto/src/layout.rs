//! Names, order and shapes of a model's tensors, and their identity.

use serde::{Deserialize, Serialize};

use crate::{Digest, LayoutDigest, OutOfRange};

/// Largest number of parameters a layout may have: vectors stay below 16 GiB.
pub const MAX_PARAMETERS: usize = 1 << 32;

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Name, unique in its layout, as it stands in the safetensors file.
    pub name: String,
    /// Length of each dimension, all above 0; a scalar has none.
    pub shape: Vec<usize>,
}

/// All tensors of a model in the order in which a flat vector holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
}

impl Layout {
    /// Checks names and shapes.
    ///
    /// # Errors
    /// No tensor, a name that is empty or given twice, a dimension of 0, too many parameters.
    pub fn new(tensors: Vec<TensorSpec>) -> Result<Self, OutOfRange> {
        let refused = |allowed, found: &str| Err(OutOfRange::new("layout", allowed, found));
        if tensors.is_empty() {
            return refused("one tensor or more", "none");
        }
        let mut seen = std::collections::HashSet::new();
        let mut total = 0_usize;
        for tensor in &tensors {
            if tensor.name.is_empty() || tensor.name.len() > 200 || !seen.insert(&tensor.name) {
                return refused("named uniquely in 1 to 200 bytes", &tensor.name);
            }
            let size = tensor
                .shape
                .iter()
                .try_fold(1_usize, |a, &b| a.checked_mul(b));
            total = match size.and_then(|size| total.checked_add(size)) {
                Some(sum) if size != Some(0) && sum <= MAX_PARAMETERS => sum,
                _ => return refused("made of 1 to 2^32 parameters", &tensor.name),
            };
        }
        Ok(Self { tensors })
    }

    /// The tensors in order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Number of parameters of all tensors together.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().map(TensorSpec::parameters).sum()
    }

    /// Each tensor with the range it takes in the flat vector.
    pub fn ranges(&self) -> impl Iterator<Item = (&TensorSpec, std::ops::Range<usize>)> {
        self.tensors.iter().scan(0, |start, tensor| {
            let range = *start..*start + tensor.parameters();
            *start = range.end;
            Some((tensor, range))
        })
    }

    /// Its identity: two layouts with the same digest are the same.
    pub fn digest(&self) -> LayoutDigest {
        let mut text = String::new();
        for tensor in &self.tensors {
            // A name holds no newline that could shift a boundary: lengths are written out.
            text += &format!("{}:{}:{:?}\n", tensor.name.len(), tensor.name, tensor.shape);
        }
        LayoutDigest(Digest::of("consilium/layout/1", &[text.as_bytes()]))
    }
}

impl TensorSpec {
    /// Number of parameters of this tensor.
    pub fn parameters(&self) -> usize {
        self.shape.iter().product()
    }
}

impl<'de> Deserialize<'de> for Layout {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Unchecked {
            tensors: Vec<TensorSpec>,
        }
        let unchecked = Unchecked::deserialize(deserializer)?;
        Self::new(unchecked.tensors).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[usize]) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            shape: shape.into(),
        }
    }

    #[test]
    fn order_names_and_shapes_all_change_the_identity() {
        let layout = |t: Vec<TensorSpec>| Layout::new(t).expect("a sound layout").digest();
        let base = layout(vec![tensor("a", &[2, 3]), tensor("b", &[3])]);
        assert_eq!(base, layout(vec![tensor("a", &[2, 3]), tensor("b", &[3])]));
        assert_ne!(base, layout(vec![tensor("b", &[3]), tensor("a", &[2, 3])]));
        assert_ne!(base, layout(vec![tensor("a", &[3, 2]), tensor("b", &[3])]));
        assert_ne!(base, layout(vec![tensor("c", &[2, 3]), tensor("b", &[3])]));
    }

    #[test]
    fn unsound_layouts_are_refused() {
        assert!(Layout::new(vec![]).is_err());
        assert!(Layout::new(vec![tensor("a", &[0])]).is_err());
        assert!(Layout::new(vec![tensor("a", &[1]), tensor("a", &[1])]).is_err());
        assert!(Layout::new(vec![tensor("a", &[usize::MAX, 2])]).is_err());
    }

    #[test]
    fn ranges_cover_the_vector_without_gaps() {
        let layout = Layout::new(vec![
            tensor("a", &[2, 3]),
            tensor("s", &[]),
            tensor("b", &[4]),
        ])
        .expect("a sound layout");
        let ranges: Vec<_> = layout.ranges().map(|(_, range)| range).collect();
        assert_eq!(ranges, [0..6, 6..7, 7..11]);
        assert_eq!(layout.parameters(), 11);
    }
}
