//! What each error means to a caller: the one place where errors become gRPC status.
//!
//! Causes inside the coordinator go to the log; a caller gets what it can act on.

use consilium_privacy::secagg::coordinator::Refusal as Refused;
use consilium_proto::ErrorCode;
use tonic::Status;
use tracing::{error, warn};

use crate::{
    aggregation::AggregationError,
    blobs::BlobError,
    certificates::CertificateError,
    driver::{DriveError, SecureError},
    publication::CardError,
    roster::MembersError,
    store::StoreError,
    submission::SubmitError,
    transparency::HeadError,
    uploads::UploadError,
};

/// An error that a caller is told about.
pub(super) trait Refusal: std::error::Error {
    /// What the caller should do.
    fn code(&self) -> ErrorCode;

    /// What the caller is told; nothing about the coordinator's disk.
    fn told(&self) -> String {
        self.to_string()
    }
}

/// What a caller gets.
pub(super) fn status(refusal: impl Refusal) -> Status {
    let code = refusal.code();
    match code {
        ErrorCode::Internal => {
            error!(error = %chain(&refusal), "call failed");
            Status::new(code.into(), "the coordinator failed; its log says why")
        }
        ErrorCode::Exhausted | ErrorCode::Unavailable => {
            warn!(error = %chain(&refusal), "call put off");
            Status::new(code.into(), refusal.told())
        }
        _ => Status::new(code.into(), refusal.told()),
    }
}

fn chain(refusal: &dyn std::error::Error) -> String {
    let mut text = refusal.to_string();
    let mut error = refusal;
    while let Some(source) = error.source() {
        text += &format!(": {source}");
        error = source;
    }
    text
}

const FULL: &str = "the coordinator's disk is full: tell its operator, then try again";

impl Refusal for StoreError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Conflict | Self::Locked { .. } => ErrorCode::Unavailable,
            Self::Full { .. } => ErrorCode::Exhausted,
            _ => ErrorCode::Internal,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Full { .. } => FULL.into(),
            _ => "the coordinator's database is busy: try again shortly".into(),
        }
    }
}

impl Refusal for BlobError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Full => ErrorCode::Exhausted,
            _ => ErrorCode::Internal,
        }
    }

    fn told(&self) -> String {
        FULL.into()
    }
}

impl Refusal for CertificateError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Request(_) | Self::OtherKey => ErrorCode::Invalid,
            Self::Authority(_) | Self::Signing(_) => ErrorCode::Internal,
        }
    }
}

/// An error made of others: those speak for themselves, the rest has a code.
enum Part<'a> {
    Own(ErrorCode),
    Inner(&'a dyn Refusal),
}

impl Part<'_> {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Own(code) => *code,
            Self::Inner(inner) => inner.code(),
        }
    }

    fn told(&self, own: &dyn std::error::Error) -> String {
        match self {
            Self::Own(_) => own.to_string(),
            Self::Inner(inner) => inner.told(),
        }
    }
}

/// Implements [`Refusal`] by a function that says which part of an error speaks.
macro_rules! by_parts {
    ($($error:ident: $part:ident;)*) => {$(
        impl Refusal for $error {
            fn code(&self) -> ErrorCode {
                $part(self).code()
            }

            fn told(&self) -> String {
                $part(self).told(self)
            }
        }
    )*};
}

by_parts! {
    MembersError: of_members;
    CardError: of_card;
    DriveError: of_drive;
    SubmitError: of_submit;
    UploadError: of_upload;
    HeadError: of_head;
}

fn of_members(error: &MembersError) -> Part<'_> {
    match error {
        MembersError::Store(error) => Part::Inner(error),
        MembersError::Roster(_) => Part::Own(ErrorCode::Internal),
    }
}

fn of_card(error: &CardError) -> Part<'_> {
    match error {
        CardError::Model(AggregationError::Blob(error)) => Part::Inner(error),
        _ => Part::Own(ErrorCode::Internal),
    }
}

fn of_drive(error: &DriveError) -> Part<'_> {
    match error {
        DriveError::Unknown(_) => Part::Own(ErrorCode::Missing),
        DriveError::Refused(_) | DriveError::Taken(_) => Part::Own(ErrorCode::Precondition),
        DriveError::Secure(error) => Part::Own(of_secure(error)),
        DriveError::Store(error) => Part::Inner(error),
        DriveError::Members(error) => Part::Inner(error),
        DriveError::Blob(error) => Part::Inner(error),
        DriveError::Card(error) => Part::Inner(error),
        DriveError::Value(_) => Part::Own(ErrorCode::Internal),
    }
}

fn of_secure(error: &SecureError) -> ErrorCode {
    match error {
        SecureError::Refused(Refused::NotInCohort(_)) => ErrorCode::Denied,
        SecureError::Refused(Refused::OutOfPhase { .. } | Refused::Answered(_))
        | SecureError::Closed(_) => ErrorCode::Precondition,
        SecureError::Refused(_) => ErrorCode::Invalid,
        _ => ErrorCode::Internal,
    }
}

fn of_submit(error: &SubmitError) -> Part<'_> {
    match error {
        SubmitError::Malformed(_)
        | SubmitError::CohortTooLarge { .. }
        | SubmitError::Chunk(_)
        | SubmitError::NotFinite(_)
        | SubmitError::OtherBytes { .. }
        | SubmitError::Value(_) => Part::Own(ErrorCode::Invalid),
        SubmitError::Superseded => Part::Own(ErrorCode::Precondition),
        SubmitError::Blob(error) => Part::Inner(error),
        SubmitError::Store(error) => Part::Inner(error),
        SubmitError::Drive(error) => Part::Inner(error),
        SubmitError::Members(error) => Part::Inner(error),
    }
}

fn of_upload(error: &UploadError) -> Part<'_> {
    match error {
        UploadError::NotASite => Part::Own(ErrorCode::Denied),
        UploadError::Statement(_)
        | UploadError::Mismatch { .. }
        | UploadError::Masked { .. }
        | UploadError::Chunk { .. }
        | UploadError::NotFinite { .. }
        | UploadError::OtherBytes { .. }
        | UploadError::Value(_) => Part::Own(ErrorCode::Invalid),
        UploadError::Refused(_) | UploadError::Superseded => Part::Own(ErrorCode::Precondition),
        UploadError::ShuttingDown => Part::Own(ErrorCode::Unavailable),
        UploadError::Blob(error) => Part::Inner(error),
        UploadError::Store(error) => Part::Inner(error),
        UploadError::Drive(error) => Part::Inner(error),
    }
}

fn of_head(error: &HeadError) -> Part<'_> {
    match error {
        HeadError::NotASite => Part::Own(ErrorCode::Denied),
        HeadError::Head(_) | HeadError::OtherMember | HeadError::NoSuchTree { .. } => {
            Part::Own(ErrorCode::Invalid)
        }
        HeadError::Refused(_) => Part::Own(ErrorCode::Precondition),
        HeadError::Stored { .. } => Part::Own(ErrorCode::Internal),
        HeadError::Store(error) => Part::Inner(error),
        HeadError::Members(error) => Part::Inner(error),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such_and_says_whom_to_tell() {
        let path = "coordinator.sqlite".into();
        let refusals = [
            status(SubmitError::Blob(BlobError::Full)),
            status(UploadError::Blob(BlobError::Full)),
            status(UploadError::Drive(DriveError::Store(StoreError::Full {
                path,
            }))),
        ];
        for refused in refusals {
            assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
            assert_eq!(refused.message(), FULL);
        }
    }
}
