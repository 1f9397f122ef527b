//! Both ends of the wire: reflection, the TLS identity of a member, the way to a coordinator.

mod connect;
mod tls_identity;

pub use self::{
    connect::{ConnectError, Coordinator, explain},
    tls_identity::{TlsIdentity, TlsIdentityError, key_digest},
};

/// Descriptors of the package `consilium.v1`, for the gRPC reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/consilium.v1.bin"));
