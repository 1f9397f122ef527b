//! What can go wrong with a membership.

use consilium_privacy::seal::FileError;
use consilium_proto::{
    ErrorCode, OutOfRange,
    roster::RosterError,
    rpc::{ConnectError, TlsIdentityError, explain},
};
use tonic::Status;

/// Why a membership cannot be made, opened or used.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The folder holds a member already.
    #[error("{0} holds a member already: give another folder")]
    AlreadyAMember(String),
    /// The folder holds no member.
    #[error("{0} holds no member: enrol first")]
    NotAMember(String),
    /// A file of the folder cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the folder holds what it must not.
    #[error("{file} in the member's folder is damaged: {reason}")]
    Damaged {
        /// Which one.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A key or a message is not what it should be.
    #[error(transparent)]
    Malformed(#[from] OutOfRange),
    /// The TLS key or a certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsIdentityError),
    /// The coordinator cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The coordinator refuses.
    #[error("the coordinator refuses: {reason}")]
    Refused {
        /// What to do next.
        code: ErrorCode,
        /// Why.
        reason: String,
    },
    /// The coordinator's roster is not believed.
    #[error("the coordinator's roster is not believed")]
    Roster(#[source] RosterError),
    /// The coordinator's roster is another one than it gave before. Somebody lies: alarm.
    #[error(
        "ALARM: the coordinator shows another history of the roster than before (epoch {epoch}); \
         stop, and compare rosters with other members"
    )]
    Fork {
        /// The first epoch that differs.
        epoch: u64,
    },
    /// The roster does not name this member with its keys.
    #[error("the roster does not name this member with the keys of this folder: ask governance")]
    NotNamed,
    /// The coordinator that answers is not in the roster with that role.
    #[error("the roster names no active coordinator with the TLS key that was pinned at enrolment")]
    UnknownCoordinator,
    /// Governance has not admitted this member yet.
    #[error("governance has not admitted this member yet: compare fingerprints with it")]
    Pending,
    /// Governance has put this member out.
    #[error("governance has revoked this member")]
    Revoked,
}

impl MembershipError {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::AlreadyAMember(_) | Self::Pending => ErrorCode::Precondition,
            Self::NotAMember(_) => ErrorCode::Missing,
            Self::File(FileError::Open { .. }) => ErrorCode::Denied,
            Self::File(_) | Self::Damaged { .. } | Self::Tls(_) => ErrorCode::Internal,
            Self::Malformed(_) | Self::Connect(ConnectError::Address(_)) => ErrorCode::Invalid,
            Self::Connect(_) => ErrorCode::Unavailable,
            Self::Refused { code, .. } => *code,
            Self::Roster(_) | Self::Fork { .. } | Self::NotNamed => ErrorCode::Denied,
            Self::UnknownCoordinator | Self::Revoked => ErrorCode::Denied,
        }
    }
}

impl From<Status> for MembershipError {
    fn from(status: Status) -> Self {
        let (code, reason) = explain(&status);
        Self::Refused { code, reason }
    }
}
