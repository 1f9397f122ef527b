//! Objects made here, and the public collection where it lies beside the repository.

mod hostile;
mod manifest;
mod objects;
mod pictures;
