//! What an auditor checks of a ledger, from the bytes of one file and nothing else.
//!
//! An [`Export`] holds, for each site, what it signed about its ledger ([`SiteStatement`]), the
//! plans of its studies, the ledger's entries as exact bytes and the receipts it keeps. This module
//! reads the file, replays the ledger's rules and accounts what was spent; who the sites and their
//! coordinator are (the roster, the signature below a statement, what a receipt says) is for the
//! caller, who knows the federation.
//!
//! Every byte of a file is covered: a line is believed only in the one form that this version
//! writes; statement, entries and roster are signed; plans and receipts stand in the statement by
//! digest; the last line holds the digest of all others.
//!
//! ε is recomputed by [`Pld`](crate::accountant::Pld), which shares no code with the Rényi curves
//! by which the ledger granted. It holds under **add-or-remove-one** adjacency, for each study by
//! itself, whose schedule its plan fixed in advance.

mod account;
mod file;
mod finding;
mod hexadecimal;
mod older;
mod rules;
mod statement;
mod terms;

pub use account::{DataSetAccount, Left, Release, Round, StudyAccount};
pub use file::{Export, FormatError, PlanText, Receipt, SiteExport};
pub use finding::{Finding, Flaw, Place};
pub use hexadecimal::Hex;
pub use older::compare;
pub use rules::{Ledger, check};
pub use statement::{DataSetStated, SiteStatement, StudyStated};
pub use terms::{Target, Terms};

#[cfg(test)]
mod tests;
