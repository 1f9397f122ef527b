//! From facts to diagnoses and plans, each with its reasons.
//!
//! | module | what lives there |
//! |---|---|
//! | [`facts`] | what is known of a patient, and what is not |
//! | [`knowledge`] | files of findings, rules and treatments, each with its source, and their check |
//! | [`diagnosis`] | a ranked differential with reasons, and the question that tells most |
//! | [`treatment`] | plans from templates, what speaks against each, and the best of them |
//! | [`tree`] | a decision tree grown from summed histograms, read path by path |

pub mod diagnosis;
pub mod facts;
pub mod knowledge;
pub mod treatment;
pub mod tree;
