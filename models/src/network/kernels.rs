//! Arithmetic on slices, for the processor it runs on.
//!
//! Everything a network computes on the CPU ends up here: products of matrices and loops over
//! values, compiled for the processor's vectors. One thread; microbatches share the cores.
//! **The bits of a row of a result depend on that row's operands alone**, never on how many others
//! are computed with it: no gradient knows of other examples, and a round can be repeated.

mod loops;
mod product;

pub(super) use self::{
    loops::{add, add_sums, dot, sum, transpose, vectorised},
    product::{Lines, Right, add_product},
};
