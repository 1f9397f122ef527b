//! Secure aggregation: the coordinator learns the sum of the sites' updates and nothing else, even
//! if it lies, even if sites drop out at any moment, even if a few of them work together with it.
//!
//! Bonawitz et al. 2017 (double masking, the variant against active servers: signed keys, a list of
//! survivors that the survivors confirm, fresh keys for every attempt), with one change: a site
//! shares a random *escrow key* instead of its Diffie-Hellman keys, which cannot leave `ring`, and
//! uploads the seeds of its masks encrypted under it.
//!
//! [`Site`] and [`Coordinator`] are state machines without I/O: messages and the time go in, effects
//! come out. What the effects say is written to disk **before** what follows it is sent.
//!
//! Who is protected from whom: a site's update, from the coordinator and up to n_c colluding sites,
//! as long as [`Limits::least_threshold`] is kept, which every site checks; what is learned is the
//! sum over at least t sites, n_c + h_min or more. A malicious site can spoil the sum, or learn it,
//! and no more. That updates are private by themselves is the noise's affair.

mod bytes;
mod context;
pub mod coordinator;
pub mod encoding;
mod generator;
mod keys;
pub mod message;
mod shamir;
mod signature;
pub mod site;
mod terms;
#[cfg(test)]
mod tests;
mod upload;

pub use self::{
    bytes::Malformed,
    context::{Attempt, Context, SiteId},
    coordinator::Coordinator,
    signature::{Kind, PublicKey, Signer, Unbelieved},
    site::Site,
    terms::{Limits, Member, Proposal, Repeats, Terms, TermsError},
    upload::{ChunkRefused, Receiving, Spooled},
};

/// Most sites of a cohort: points of a polynomial over GF(256), without 0.
pub const MAX_SITES: usize = 255;
