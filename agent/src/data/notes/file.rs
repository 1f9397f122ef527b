//! A text file, read within bounds.

use std::{fs::File, io::Read, path::Path};

use super::{NotesError, encoding};

/// Reads a text of at most `limit` bytes, without its byte-order mark.
///
/// # Errors
/// No file (a pipe or device would never end), too large, not UTF-8, NUL characters.
pub(super) fn read(file: &Path, limit: u64) -> Result<String, NotesError> {
    let metadata = std::fs::metadata(file).map_err(NotesError::file(file))?;
    if !metadata.is_file() {
        return Err(NotesError::unsound(file, "is no regular file"));
    }
    let too_large = || {
        let reason = format!("at most {limit} bytes are read; split the file");
        Err(NotesError::unsound(file, reason))
    };
    if metadata.len() > limit {
        return too_large();
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    File::open(file)
        .and_then(|open| open.take(limit + 1).read_to_end(&mut bytes))
        .map_err(NotesError::file(file))?;
    if bytes.len() as u64 > limit {
        return too_large();
    }
    decode(file, bytes)
}

/// The bytes of a file as text, without byte-order mark.
///
/// # Errors
/// They are none: names the line and what they look like.
pub(super) fn decode(file: &Path, mut bytes: Vec<u8>) -> Result<String, NotesError> {
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        bytes.drain(..3);
    }
    let refused = |bytes: &[u8], at: usize| {
        let line = 1 + bytes.iter().take(at).filter(|&&byte| byte == b'\n').count() as u64;
        NotesError::line(file, line, encoding::guess(bytes, at).to_string())
    };
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            return Err(refused(error.as_bytes(), at));
        }
    };
    match text.find('\0') {
        None => Ok(text),
        Some(at) => Err(refused(text.as_bytes(), at)),
    }
}

/// Extension of a file in lower case, without its dot; empty without one.
pub(super) fn extension(file: &Path) -> String {
    file.extension()
        .map(|extension| extension.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_not_beyond() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "fever").expect("room");
        assert_eq!(read(&path, 5).expect("small enough"), "fever");
        assert!(read(&path, 4).is_err());
        assert!(read(folder.path(), 4).is_err());
    }

    /// Linux says of such files that they are empty: as of one that grows while it is read.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_holds_more_than_was_said_is_refused() {
        let message = read(Path::new("/proc/self/status"), 10).expect_err("too large");
        assert!(
            message.to_string().contains("at most 10 bytes"),
            "{message}"
        );
    }
}
