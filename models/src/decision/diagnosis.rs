//! From the facts of one patient to a ranked differential that can be argued with.
//!
//! | module | what lives there |
//! |---|---|
//! | [`likelihood`] | likelihood ratios over a table of conditions and findings, a source per figure |
//! | [`hpo`] | such a table from disease annotations of the Human Phenotype Ontology |
//! | [`rules`] | the rule base over facts: fired, not fired, cannot tell |
//! | [`opinion`] | what a trained model says, with its path |
//! | [`diagnostician`] | makes a differential of all three voices |
//! | [`differential`] | probabilities, reasons, what is missing, what to ask, when nothing is concluded |
//! | [`layout`] | what may be asked, and where each count of it stands |
//! | [`columns`] | a table's columns as questions |
//! | [`evidence_table`] | P(answer given condition), from counts under noise or from knowledge |
//! | [`question`] | which question tells the conditions apart best |

pub mod columns;
pub mod diagnostician;
pub mod differential;
pub mod evidence_table;
pub mod hpo;
pub mod layout;
pub mod likelihood;
pub mod opinion;
pub mod question;
pub mod rules;

#[cfg(test)]
mod tests;
