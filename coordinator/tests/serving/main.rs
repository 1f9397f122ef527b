//! The serving coordinator through its real doors: TLS, gRPC, SQLite, files.

mod access;
mod enrolment;
mod harness;
mod rounds;
mod studies;
mod transparency;
mod uploads;
