//! Attacks, failures and properties, against the real state machines in one process.

mod inputs;
mod keys;

mod lists;

mod replays;
mod shares;
mod simulator;
mod split_view;
