//! A hospital's node: data, policy, budget, training.
//!
//! | module | what lives there |
//! |---|---|
//! | [`membership`] | a member's folder: keys, certificate, the roster it believes |
//! | [`settings`] | how an agent runs |
//! | [`policy`] | what a hospital allows, closed unless opened by name |
//! | [`data`] | data sets: registered, never copied; opt-out |
//! | [`quality`] | what a steward should correct in a data set, exclude or look at |
//! | [`dicom`] | pictures of the hospital's archive: read safely, freed of their patients |
//! | [`fhir`], [`hl7`] | charts in, reports out |
//! | [`consent`] | studies seen, decisions made, decisions sent |
//! | [`participation`] | the running agent |
//! | [`receipts`] | what the coordinator signs about the ledger, checked |
//! | [`replay`] | past rounds, repeated for an auditor in the house |
//! | [`serving`] | local inference over HTTP, and a page to try it |
//! | [`store`] | what it remembers: SQLite, the ledger's journal, sealed updates |
//!
//! An update leaves by one road: approved plan, believed round, charge on disk, noise, sealed
//! file, signed statement. See [`participation`].

pub mod consent;
pub mod data;
pub mod dicom;
pub mod fhir;
pub mod hl7;
pub mod membership;
pub mod participation;
pub mod policy;
pub mod quality;
pub mod receipts;
pub mod replay;
pub mod serving;
pub mod settings;
pub mod store;
mod training;

pub use membership::Membership;
pub use participation::Agent;
