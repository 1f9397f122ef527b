//! Runs studies and rounds, adds vectors, keeps the audit trail.
//!
//! The coordinator never needs to know what a model means: it moves flat vectors. It relays the
//! roster and cannot extend it.
//!
//! | module | what lives there |
//! |---|---|
//! | [`study`], [`round`] | state machines without I/O or clock |
//! | [`driver`] | stores their moves and performs what they ask for |
//! | [`store`], [`blobs`] | what is remembered: rows, and long byte strings |
//! | [`submission`], [`uploads`], [`aggregation`], [`strategy`], [`publication`] | from updates to a released model |
//! | [`roster`], [`certificates`], [`tls`], [`access`] | who may connect, and call what |
//! | [`audit_log`], [`chronicle`] | what happened |
//! | [`transparency`] | how far each site's ledger has come, in a log nobody can rewrite |
//! | [`folder`], [`settings`], [`server`], [`services`] | the program around it |

pub mod access;
pub mod aggregation;
pub mod audit_log;
pub mod blobs;
pub mod certificates;
pub mod chronicle;
pub mod clock;
pub mod driver;
#[cfg(test)]
mod fixture;
pub mod folder;
pub mod publication;
pub mod roster;
pub mod round;
pub mod server;
pub mod services;
pub mod settings;
pub mod store;
pub mod strategy;
pub mod study;
pub mod submission;
pub mod tls;
pub mod transparency;
pub mod turns;
pub mod uploads;

pub use folder::{Folder, FolderError};
pub use publication::{ModelCard, to_safetensors};
pub use server::{ServeError, Server};
pub use settings::{Settings, SettingsError};
