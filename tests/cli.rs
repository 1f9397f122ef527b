//! The binary as people and scripts use it: arguments, messages, exit codes, real processes.

#[path = "cli/federation.rs"]
mod federation;
#[path = "cli/plans.rs"]
mod plans;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/run_demo.rs"]
mod run_demo;
