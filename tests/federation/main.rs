//! Whole federations: the coordinator and every agent are processes of the real binary, on
//! loopback, with real keys, TLS and databases; they are killed at will.

mod crashes;
mod encoders;
mod examples;
mod harness;
mod heart_disease;
mod lies;
mod long;
mod notes;
mod records;
mod replays;
