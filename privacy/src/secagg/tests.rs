//! Attacks, failures and properties, against the real state machines in one process.

mod crashes;
mod inputs;
mod keys;
mod known_answers;
mod lists;
mod properties;
mod random_bytes;
mod replays;
mod shares;
mod simulator;
mod split_view;
