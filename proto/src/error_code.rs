//! The few codes that tell a caller what to do next.

use std::fmt;

/// What a refusal means for the caller. Programs map their errors to one of these, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is wrong and stays wrong: correct it.
    Invalid,
    /// The caller may not do this: ask governance.
    Denied,
    /// What it names is not here.
    Missing,
    /// The request came at the wrong moment: look again, then decide.
    Precondition,
    /// A limit or a budget is used up.
    Exhausted,
    /// Try again later.
    Unavailable,
    /// A fault on this side; its cause is in the log.
    Internal,
}

impl ErrorCode {
    /// Exit code of a command that ended so: a class for scripts to tell apart.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            // 2 is what the command line itself uses for unknown arguments.
            Self::Invalid => 3,
            Self::Denied => 4,
            Self::Missing => 5,
            Self::Precondition => 6,
            Self::Exhausted => 7,
            Self::Unavailable => 8,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Precondition => "precondition",
            Self::Exhausted => "exhausted",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        })
    }
}

#[cfg(feature = "rpc")]
mod status {
    use tonic::Code;

    use super::ErrorCode;

    impl From<ErrorCode> for Code {
        fn from(code: ErrorCode) -> Self {
            match code {
                ErrorCode::Invalid => Self::InvalidArgument,
                ErrorCode::Denied => Self::PermissionDenied,
                ErrorCode::Missing => Self::NotFound,
                ErrorCode::Precondition => Self::FailedPrecondition,
                ErrorCode::Exhausted => Self::ResourceExhausted,
                ErrorCode::Unavailable => Self::Unavailable,
                ErrorCode::Internal => Self::Internal,
            }
        }
    }

    impl From<Code> for ErrorCode {
        fn from(code: Code) -> Self {
            match code {
                Code::InvalidArgument | Code::OutOfRange => Self::Invalid,
                Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
                Code::NotFound | Code::Unimplemented => Self::Missing,
                Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => {
                    Self::Precondition
                }
                Code::ResourceExhausted => Self::Exhausted,
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unavailable,
                Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::Internal,
            }
        }
    }
}
