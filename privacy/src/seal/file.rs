//! Private files, written whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{OpenError, SealError, SealingKey};

/// Why a file was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("could not {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content could not be sealed.
    #[error("could not seal {}", path.display())]
    Seal {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: SealError,
    },
    /// The content could not be opened.
    #[error("could not open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: OpenError,
    },
}

/// Seals `plaintext` into a file that only its owner may read, in place of what was there. After a
/// crash the file is the old one or the new one, never a part.
///
/// # Errors
/// The folder cannot be written, the disk is full, or there is no randomness.
pub fn write_sealed(
    path: &Path,
    key: &SealingKey,
    context: &str,
    plaintext: &[u8],
) -> Result<(), FileError> {
    let sealed = key.seal(context, plaintext);
    let sealed = sealed.map_err(|source| FileError::Seal {
        path: path.into(),
        source,
    })?;
    write_private(path, &sealed)
}

/// Opens a file that [`write_sealed`] wrote for the same context.
///
/// # Errors
/// It cannot be read, or is not intact.
pub fn read_sealed(
    path: &Path,
    key: &SealingKey,
    context: &str,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let sealed = fs::read(path).map_err(failed("read", path))?;
    key.open(context, &sealed)
        .map_err(|source| FileError::Open {
            path: path.into(),
            source,
        })
}

/// Writes a file that only its owner may read (mode 0600), in place of what was there, whole or
/// not at all: temporary file beside it, fsync, rename, fsync of the folder.
///
/// # Errors
/// The folder cannot be written, or the disk is full. The temporary file is removed.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut random = [0; 8];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| FileError::Seal {
            path: path.into(),
            source: crate::keystream::NoRandomness.into(),
        })?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", hex::encode(random)));
    let temporary = path.with_file_name(name);
    let written = create_private(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(failed("replace", path)));
    if written.is_err() {
        // What failed is more telling than what this may say.
        fs::remove_file(&temporary).ok();
        return written;
    }
    sync_folder(path)
}

/// Makes a new file that only its owner may read and syncs it to disk.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = private().open(path).map_err(failed("create", path))?;
    file.write_all(bytes).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("sync", path))?;
    sync_folder(path)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { what, path, source }
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

/// Other systems take the access list of the folder.
#[cfg(not(unix))]
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options
}

/// A name is on disk when its folder is.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync", folder))
}

/// Other systems cannot open a folder as a file.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), FileError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_is_private_replaced_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, key) = (folder.path().join("model"), SealingKey::from_bytes([1; 32]));
        for content in [&b"first"[..], b"second"] {
            write_sealed(&path, &key, "model", content).expect("room");
            let opened = read_sealed(&path, &key, "model").expect("intact");
            assert_eq!(opened.as_slice(), content);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn errors_name_the_file_and_a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (missing, key) = (folder.path().join("none"), SealingKey::from_bytes([1; 32]));
        let error = read_sealed(&missing, &key, "model").expect_err("not there");
        assert!(error.to_string().contains("none"), "{error}");
        // A folder stands where the file should go, so the last step fails.
        fs::create_dir(&missing).expect("room");
        fs::write(missing.join("in the way"), "").expect("room");
        assert!(write_sealed(&missing, &key, "model", b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
