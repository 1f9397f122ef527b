//! The binary as people and scripts use it: arguments, messages, exit codes, real processes.

mod audit;
mod bench;
mod canaries;
mod devices;
mod documents;
mod federation;
mod notes;
mod plans;
mod predictions;
mod privacy;
mod program;
mod run_demo;
mod serving;
mod simulate;
mod steward;
