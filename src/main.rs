//! The one binary of the federation: parses its arguments, runs, exits.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    consilium::run(consilium::cli::Cli::parse())
}
