//! What is trained, and how one site trains it. No network, no async.
//!
//! | module | what lives there |
//! |---|---|
//! | [`network`] | networks by name, their layers, and gradients that stay apart per example |
//! | [`imaging`] | from the bytes of a file to what enters an image network |
//! | [`tabular`] | from a row of a table to what enters a dense network |
//! | [`text`] | from a note to what a text network takes, and back to its words |
//! | [`analysis`] | the whole chain for one note: from its text to a differential and a plan |
//! | [`decision`] | from facts to diagnoses and treatment plans, each with its reasons |
//! | [`mod@start`] | version 0 of a study's weights |
//! | [`training`] | one site's work in one round, private or not |
//! | [`benchmark`] | what a step of training costs on this machine |
//! | [`released`] | a model as a finished study released it |
//! | [`prediction`] | what an image model says of a picture, how sure it is, and why |
//! | [`profile`] | where the time of training goes |
//! | [`evaluation`] | scores as sums and counts, so that sites can be merged |
//! | [`random`] | the generator behind initial weights and augmentation; never noise or sampling |

pub mod analysis;
pub mod benchmark;
pub mod decision;
pub mod evaluation;
pub mod imaging;
pub mod network;
pub mod prediction;
pub mod profile;
pub mod random;
pub mod released;
pub mod start;
pub mod tabular;
pub mod text;
pub mod training;
