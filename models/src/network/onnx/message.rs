//! The messages of a file in the ONNX format, as far as they are written here.
//!
//! Names and tags are those of `onnx.proto` (ONNX 1.17, Apache-2.0). Ten short messages by hand need neither the
//! whole schema nor a step of the build.

use prost::Message;

/// Version of the file format: that of ONNX 1.12, which knows all that is written.
pub(super) const FORMAT: i64 = 8;

/// Version of the operators.
pub(super) const OPERATORS: i64 = 17;

/// Types of numbers.
pub(super) const FLOAT: i32 = 1;
pub(super) const INTEGER: i32 = 7;

/// Types of attributes.
const ATTRIBUTE_FLOAT: i32 = 1;
const ATTRIBUTE_INTEGER: i32 = 2;
const ATTRIBUTE_INTEGERS: i32 = 7;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(string, tag = "2")]
    pub(super) producer_name: String,
    #[prost(string, tag = "3")]
    pub(super) producer_version: String,
    #[prost(string, tag = "6")]
    pub(super) doc_string: String,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata_props: Vec<Property>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Property {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, optional, tag = "2")]
    f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    /// Little-endian.
    #[prost(bytes = "vec", tag = "9")]
    pub(super) raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Type {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorType {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "1")]
    dimensions: Vec<Dimension>,
}

/// A number, or a name for one that may be any.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    number: Option<i64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
}

impl Attribute {
    pub(in super::super) fn float(name: &str, value: f32) -> Self {
        Self {
            f: Some(value),
            ..Self::new(name, ATTRIBUTE_FLOAT)
        }
    }

    pub(in super::super) fn integer(name: &str, value: i64) -> Self {
        Self {
            i: Some(value),
            ..Self::new(name, ATTRIBUTE_INTEGER)
        }
    }

    pub(in super::super) fn integers<const N: usize>(name: &str, values: [usize; N]) -> Self {
        Self {
            ints: values.map(|value| value as i64).into(),
            ..Self::new(name, ATTRIBUTE_INTEGERS)
        }
    }

    fn new(name: &str, kind: i32) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            ..Self::default()
        }
    }
}

impl ValueInfo {
    /// Floats: any number of examples of this shape.
    pub(super) fn examples(name: &str, shape: &[usize]) -> Self {
        let batch = Dimension {
            name: Some("batch".to_owned()),
            number: None,
        };
        let of_one = shape.iter().map(|&length| Dimension {
            number: Some(length as i64),
            name: None,
        });
        let shape = Shape {
            dimensions: [batch].into_iter().chain(of_one).collect(),
        };
        let tensor = TensorType {
            element: FLOAT,
            shape: Some(shape),
        };
        Self {
            name: name.to_owned(),
            kind: Some(Type {
                tensor: Some(tensor),
            }),
        }
    }
}
