//! What went wrong, as a class that scripts can tell apart by the exit code.

use std::{fmt, io, process::ExitCode};

use anyhow::Result;
use consilium_agent::{
    consent::ConsentError,
    data::{CheckError, DataError, ExcludeError, LabelBalanceError, RegisterError},
    membership::MembershipError,
    participation::AgentError,
    replay::ReplayError,
    serving::{ServingError, models::ModelError},
    settings::SettingsError,
    store::StoreError,
};
use consilium_coordinator::{FolderError, ServeError};
use consilium_privacy::seal::FileError;
use consilium_proto::{
    ErrorCode, OutOfRange,
    convert::Malformed,
    plan::PlanError,
    roster::RosterError,
    rpc::{ConnectError, explain},
    signed::SignatureError,
};

use crate::device::NoSuchCard;

/// Exit code of a command that Ctrl-C ended, as shells expect it: 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;

/// A failure whose class is known where it happens.
#[derive(Debug)]
pub struct Failure {
    code: ErrorCode,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Ctrl-C, or a signal to stop, ended the command before its work was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Fails with a message for people and a class for scripts.
///
/// # Errors
/// Always.
pub fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T> {
    Err(Failure {
        code,
        message: message.into(),
    }
    .into())
}

/// What a refused call means, as a failure.
pub fn refused_call(status: tonic::Status) -> anyhow::Error {
    let (code, message) = explain(&status);
    Failure {
        code,
        message: format!("the coordinator says: {message}"),
    }
    .into()
}

/// Puts errors that say nothing about it into a class.
pub trait Classify<T> {
    /// Gives the error this class, in which scripts see it.
    ///
    /// # Errors
    /// The same error, in its class.
    fn classify(self, code: ErrorCode) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> Classify<T> for Result<T, E> {
    fn classify(self, code: ErrorCode) -> Result<T> {
        self.map_err(|error| {
            Classified {
                code,
                error: error.into(),
            }
            .into()
        })
    }
}

/// An error with a class put on it.
struct Classified {
    code: ErrorCode,
    error: anyhow::Error,
}

impl fmt::Debug for Classified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl fmt::Display for Classified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Classified {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.chain().nth(1)
    }
}

/// Class of an error: the first one known from the outside in.
pub fn code_of(error: &anyhow::Error) -> ErrorCode {
    error.chain().find_map(known).unwrap_or(ErrorCode::Internal)
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<ErrorCode> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.code);
    }
    if let Some(classified) = cause.downcast_ref::<Classified>() {
        return Some(classified.code);
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return Some(code_of_io(error.kind()));
    }
    if let Some(code) = known_by_its_module(cause) {
        return Some(code);
    }
    match cause.downcast_ref::<RosterError>() {
        Some(RosterError::Duplicate { .. }) => return Some(ErrorCode::Precondition),
        Some(RosterError::Unknown(_)) => return Some(ErrorCode::Missing),
        Some(RosterError::Signature(_) | RosterError::OtherTrustRoot { .. }) => {
            return Some(ErrorCode::Denied);
        }
        Some(_) => return Some(ErrorCode::Invalid),
        None => {}
    }
    let is_invalid = cause.is::<PlanError>()
        || cause.is::<OutOfRange>()
        || cause.is::<consilium_privacy::OutOfRange>()
        || cause.is::<Malformed>()
        || cause.is::<toml::de::Error>()
        || cause.is::<csv::Error>()
        || cause.is::<image::ImageError>();
    if is_invalid {
        return Some(ErrorCode::Invalid);
    }
    if cause.is::<SignatureError>() {
        return Some(ErrorCode::Denied);
    }
    cause.is::<ConnectError>().then_some(ErrorCode::Unavailable)
}

/// Errors that say their class themselves.
fn known_by_its_module(cause: &(dyn std::error::Error + 'static)) -> Option<ErrorCode> {
    None.or_else(|| Some(cause.downcast_ref::<AgentError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<MembershipError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<ConsentError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<RegisterError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<CheckError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<ExcludeError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<LabelBalanceError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<DataError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<ReplayError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<StoreError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<ServingError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<ModelError>()?.code()))
        .or_else(|| Some(cause.downcast_ref::<NoSuchCard>()?.code()))
        .or_else(|| cause.is::<SettingsError>().then_some(ErrorCode::Invalid))
        .or_else(|| match cause.downcast_ref::<ServeError>()? {
            ServeError::Folder(error) => code_of_folder(error),
            ServeError::Listen { .. } => Some(ErrorCode::Unavailable),
            ServeError::Members(_) => Some(ErrorCode::Denied),
            _ => None,
        })
        .or_else(|| code_of_folder(cause.downcast_ref::<FolderError>()?))
        .or_else(|| match cause.downcast_ref::<FileError>()? {
            FileError::Open { .. } => Some(ErrorCode::Denied),
            _ => None,
        })
}

/// Class of what keeps a coordinator from using its folder; none where the cause below decides.
fn code_of_folder(error: &FolderError) -> Option<ErrorCode> {
    match error {
        FolderError::Exists(_) | FolderError::HoldsGovernance(_) => Some(ErrorCode::Precondition),
        FolderError::Absent(_) => Some(ErrorCode::Missing),
        FolderError::InUse(_) => Some(ErrorCode::Unavailable),
        FolderError::File(FileError::Open { .. }) => Some(ErrorCode::Denied),
        FolderError::Value(_) | FolderError::Settings(_) => Some(ErrorCode::Invalid),
        FolderError::Members(_) | FolderError::Roster(_) => Some(ErrorCode::Denied),
        FolderError::Store(error) => Some(match error {
            consilium_coordinator::store::StoreError::Locked { .. } => ErrorCode::Unavailable,
            consilium_coordinator::store::StoreError::Full { .. } => ErrorCode::Exhausted,
            consilium_coordinator::store::StoreError::Newer { .. } => ErrorCode::Precondition,
            _ => ErrorCode::Internal,
        }),
        _ => None,
    }
}

fn code_of_io(kind: io::ErrorKind) -> ErrorCode {
    use io::ErrorKind as Kind;
    match kind {
        Kind::NotFound => ErrorCode::Missing,
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => ErrorCode::Denied,
        Kind::AlreadyExists => ErrorCode::Precondition,
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => ErrorCode::Exhausted,
        Kind::AddrInUse | Kind::ConnectionRefused | Kind::TimedOut => ErrorCode::Unavailable,
        Kind::InvalidData | Kind::InvalidInput | Kind::UnexpectedEof => ErrorCode::Invalid,
        _ => ErrorCode::Internal,
    }
}

/// The end of the program: what to print and how to exit.
pub fn report(result: Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if error.is::<Interrupted>() {
        return ExitCode::from(INTERRUPTED);
    }
    let is_closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    crate::output::note(format_args!(
        "{} {}",
        crate::output::red("error:"),
        message(&error)
    ));
    ExitCode::from(code_of(&error).exit_code())
}

/// The whole chain in one line, without what is said twice.
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text += ": ";
        }
        text += &cause;
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_class_is_found_below_what_was_added() {
        let error: Result<()> = refuse(ErrorCode::Exhausted, "budget used up");
        let error = error.context("submitting").expect_err("a refusal");
        assert_eq!(code_of(&error), ErrorCode::Exhausted);
        assert_eq!(message(&error), "submitting: budget used up");

        let missing = std::fs::read("no such file").context("reading the plan");
        assert_eq!(code_of(&missing.expect_err("no file")), ErrorCode::Missing);
        assert_eq!(code_of(&anyhow::anyhow!("odd")), ErrorCode::Internal);
    }

    #[test]
    fn a_class_given_from_outside_wins_and_keeps_the_message() {
        let error = std::fs::read("no such file")
            .classify(ErrorCode::Invalid)
            .expect_err("no file");
        assert_eq!(code_of(&error), ErrorCode::Invalid);
        let plain = std::fs::read("no such file")
            .expect_err("no file")
            .to_string();
        assert_eq!(message(&error), plain);
    }
}
