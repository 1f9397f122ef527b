//! The one binary of the federation: parses its arguments, runs, exits.

use std::process::ExitCode;

use clap::Parser as _;
use consilium_agent::dicom::{WORKER, decode_worker};

fn main() -> ExitCode {
    // Before anything else, as a child that decodes starts no thread.
    if std::env::args().nth(1).as_deref() == Some(WORKER) {
        return decode_worker();
    }
    consilium::run(consilium::cli::Cli::parse())
}
