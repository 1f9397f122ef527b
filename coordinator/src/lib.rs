//! Runs studies and rounds, adds vectors, keeps the audit trail.
