//! Where a sealing key comes from: a passphrase, a key file, or the system's credential store.

use std::{
    ffi::OsString,
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ring::{
    pbkdf2::{self, PBKDF2_HMAC_SHA256},
    rand::{SecureRandom, SystemRandom},
};
use zeroize::{Zeroize, Zeroizing};

use super::{
    FileError, OpenError, create_private,
    format::{Header, Stretch},
};
use crate::keystream::NoRandomness;

/// PBKDF2 iterations for new files, and the fewest with which a file is opened: the OWASP figure
/// for HMAC-SHA256 of 2023.
pub const MIN_ITERATIONS: u32 = 600_000;

/// Most iterations a header may ask for: about ten seconds.
const MAX_ITERATIONS: u32 = 10_000_000;

/// Shortest passphrase, in characters.
const MIN_PASSPHRASE: usize = 8;

/// The key under which a site seals its files. Wiped when dropped.
pub struct SealingKey(Source);

enum Source {
    Random(Zeroizing<[u8; 32]>),
    Passphrase(Passphrase),
}

/// A passphrase, with the keys it has been stretched to.
///
/// Stretching takes a good part of a second, so a salt is used for many files: the first one that
/// opens gives its salt to the files sealed afterwards.
struct Passphrase {
    text: Zeroizing<String>,
    /// For new files, and the least that opens.
    iterations: u32,
    stretched: Mutex<Vec<(Stretch, Zeroizing<[u8; 32]>)>>,
}

/// Why there is no sealing key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Too short to protect anything.
    #[error("the passphrase has fewer than {MIN_PASSPHRASE} characters; choose a longer one")]
    ShortPassphrase,
    /// The key file could not be read.
    #[error("could not read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others may read the key file.
    #[error("others may read the key file {path} (mode {mode:o}); run: chmod 600 {path}",
        path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file holds exactly 32 bytes.
    #[error("the key file {} must hold 32 bytes, found {found}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: usize,
    },
    /// The service manager passed no credentials.
    #[error(
        "no credentials were passed to this process; add LoadCredentialEncrypted={name}:FILE to \
         its systemd unit"
    )]
    NoCredentials {
        /// The credential asked for.
        name: String,
    },
    /// A new key could not be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The new key file could not be written.
    #[error("could not write the key file")]
    Write(#[from] FileError),
}

impl SealingKey {
    /// A key from a passphrase of 8 characters or more, by PBKDF2-HMAC-SHA256.
    ///
    /// # Errors
    /// A shorter passphrase.
    pub fn from_passphrase(passphrase: &str) -> Result<Self, KeyError> {
        if passphrase.chars().count() < MIN_PASSPHRASE {
            return Err(KeyError::ShortPassphrase);
        }
        Ok(Self::stretched(passphrase, MIN_ITERATIONS))
    }

    fn stretched(passphrase: &str, iterations: u32) -> Self {
        Self(Source::Passphrase(Passphrase {
            text: Zeroizing::new(passphrase.to_owned()),
            iterations,
            stretched: Mutex::new(Vec::new()),
        }))
    }

    /// Reads a key file of 32 bytes that nobody but its owner may read.
    ///
    /// # Errors
    /// It cannot be read, has another length, or others may read it.
    pub fn from_key_file(path: &Path) -> Result<Self, KeyError> {
        check_mode(path)?;
        Self::read(path)
    }

    /// Makes a new key file, readable by its owner alone, and reads it. Keep a copy apart from the
    /// data: what it sealed is lost with it.
    ///
    /// # Errors
    /// The file exists already, or cannot be written.
    pub fn create_key_file(path: &Path) -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(key.as_mut())
            .map_err(|_| NoRandomness)?;
        create_private(path, key.as_ref())?;
        Self::from_key_file(path)
    }

    /// Takes 32 bytes from the operating system's credential store: a systemd credential, kept
    /// encrypted under the machine's TPM or its host key and shown to this service alone.
    ///
    /// ```text
    /// head -c 32 /dev/urandom | systemd-creds encrypt --name=consilium-seal - consilium.cred
    /// LoadCredentialEncrypted=consilium-seal:/etc/consilium.cred     # in the unit's [Service]
    /// ```
    ///
    /// # Errors
    /// No credentials were passed (`$CREDENTIALS_DIRECTORY` is not set), or not this one.
    pub fn from_credential(name: &str) -> Result<Self, KeyError> {
        Self::from_credential_in(std::env::var_os("CREDENTIALS_DIRECTORY"), name)
    }

    /// The folder is the service manager's and its access lists are not mode bits, so the mode is
    /// not checked.
    fn from_credential_in(folder: Option<OsString>, name: &str) -> Result<Self, KeyError> {
        match folder {
            Some(folder) => Self::read(&Path::new(&folder).join(name)),
            None => Err(KeyError::NoCredentials {
                name: name.to_owned(),
            }),
        }
    }

    /// A key whose 32 random bytes come from elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Source::Random(Zeroizing::new(bytes)))
    }

    fn read(path: &Path) -> Result<Self, KeyError> {
        let bytes = fs::read(path).map(Zeroizing::new);
        let bytes = bytes.map_err(|source| KeyError::Read {
            path: path.into(),
            source,
        })?;
        let found = bytes.len();
        let key = <[u8; 32]>::try_from(bytes.as_slice());
        key.map(Self::from_bytes).map_err(|_| KeyError::Length {
            path: path.into(),
            found,
        })
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.0 {
            Source::Random(_) => "a key file",
            Source::Passphrase(_) => "a passphrase",
        }
    }

    /// The secret for a new file; notes in its header how to make it again.
    pub(super) fn for_sealing(
        &self,
        header: &mut Header,
    ) -> Result<Zeroizing<[u8; 32]>, NoRandomness> {
        let passphrase = match &self.0 {
            Source::Random(key) => return Ok(key.clone()),
            Source::Passphrase(passphrase) => passphrase,
        };
        let mut stretched = passphrase.stretched();
        if stretched.is_empty() {
            let mut stretch = Stretch {
                iterations: passphrase.iterations,
                salt: [0; 16],
            };
            SystemRandom::new()
                .fill(&mut stretch.salt)
                .map_err(|_| NoRandomness)?;
            stretched.push((stretch, passphrase.stretch(stretch)));
        }
        let (stretch, key) = &stretched[0];
        header.stretch = Some(*stretch);
        Ok(key.clone())
    }

    /// The secret that a header asks for.
    pub(super) fn for_opening(&self, header: &Header) -> Result<Zeroizing<[u8; 32]>, OpenError> {
        match (&self.0, header.stretch) {
            (Source::Random(key), None) => Ok(key.clone()),
            (Source::Passphrase(passphrase), Some(stretch)) => {
                let found = stretch.iterations;
                if !(passphrase.iterations..=MAX_ITERATIONS).contains(&found) {
                    return Err(OpenError::Iterations { found });
                }
                let known = passphrase.stretched();
                match known.iter().find(|(other, _)| *other == stretch) {
                    Some((_, key)) => Ok(key.clone()),
                    None => Ok(passphrase.stretch(stretch)),
                }
            }
            (Source::Random(_), Some(_)) => Err(OpenError::OtherKindOfKey {
                sealed_with: "a passphrase",
                opened_with: self.kind(),
            }),
            (Source::Passphrase(_), None) => Err(OpenError::OtherKindOfKey {
                sealed_with: "a key file",
                opened_with: self.kind(),
            }),
        }
    }

    /// Keeps a stretched key that has opened a file, so that neither wrong passphrases nor forged
    /// headers fill the memory.
    pub(super) fn remember(&self, header: &Header, key: &Zeroizing<[u8; 32]>) {
        if let (Source::Passphrase(passphrase), Some(stretch)) = (&self.0, header.stretch) {
            let mut known = passphrase.stretched();
            if known.iter().all(|(other, _)| *other != stretch) {
                known.push((stretch, key.clone()));
            }
        }
    }
}

impl Passphrase {
    /// A thread that died while it held the lock left whole entries behind.
    fn stretched(&self) -> MutexGuard<'_, Vec<(Stretch, Zeroizing<[u8; 32]>)>> {
        self.stretched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn stretch(&self, stretch: Stretch) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        let iterations = NonZeroU32::new(stretch.iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(
            PBKDF2_HMAC_SHA256,
            iterations,
            &stretch.salt,
            self.text.as_bytes(),
            key.as_mut(),
        );
        key
    }
}

impl Drop for Passphrase {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(path);
    let metadata = metadata.map_err(|source| KeyError::Read {
        path: path.into(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: path.into(),
            mode,
        });
    }
    Ok(())
}

/// Other systems guard files by access lists, which are their administrator's to set.
#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), KeyError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: u32 = 10;

    #[test]
    fn a_passphrase_opens_what_it_sealed_also_after_a_restart() {
        let key = SealingKey::stretched("correct horse", FEW);
        let file = key.seal("identity", b"secret").expect("randomness");
        let again = SealingKey::stretched("correct horse", FEW);
        assert_eq!(
            again
                .open("identity", &file)
                .expect("same passphrase")
                .as_slice(),
            b"secret"
        );
        // The salt of the opened file serves the files sealed next.
        let next = again.seal("identity", b"more").expect("randomness");
        assert_eq!(next[10..30], file[10..30]);

        let wrong = SealingKey::stretched("wrong horse", FEW);
        assert_eq!(
            wrong.open("identity", &file).expect_err("wrong"),
            OpenError::WrongKey
        );
    }

    #[test]
    fn kinds_of_keys_are_not_confused() {
        let (phrase, file) = (
            SealingKey::stretched("correct horse", FEW),
            SealingKey::from_bytes([1; 32]),
        );
        for (sealer, opener) in [(&phrase, &file), (&file, &phrase)] {
            let sealed = sealer.seal("x", b"y").expect("randomness");
            let error = opener.open("x", &sealed).expect_err("another kind");
            assert!(matches!(error, OpenError::OtherKindOfKey { .. }), "{error}");
        }
    }

    #[test]
    fn real_keys_refuse_headers_with_few_or_endless_iterations() {
        let sealed = SealingKey::stretched("correct horse", FEW)
            .seal("x", b"y")
            .expect("random");
        let real = SealingKey::from_passphrase("correct horse").expect("long enough");
        let error = real.open("x", &sealed).expect_err("too few");
        assert_eq!(error, OpenError::Iterations { found: FEW });
        let mut endless = sealed;
        endless[10..14].copy_from_slice(&u32::MAX.to_be_bytes());
        let error = real.open("x", &endless).expect_err("too many");
        assert_eq!(error, OpenError::Iterations { found: u32::MAX });
        assert!(matches!(
            SealingKey::from_passphrase("short"),
            Err(KeyError::ShortPassphrase)
        ));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seal.key");
        let key = SealingKey::create_key_file(&path).expect("a new file");
        let sealed = key.seal("x", b"y").expect("randomness");
        let again = SealingKey::from_key_file(&path).expect("just made");
        assert_eq!(again.open("x", &sealed).expect("same key").as_slice(), b"y");
        assert!(
            SealingKey::create_key_file(&path).is_err(),
            "an existing key was overwritten"
        );

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("own file");
        let error = SealingKey::from_key_file(&path).expect_err("exposed");
        assert!(error.to_string().contains("chmod 600"), "{error}");

        let short = folder.path().join("short.key");
        create_private(&short, b"too short").expect("room");
        let error = SealingKey::from_key_file(&short).expect_err("too short");
        assert!(
            matches!(error, KeyError::Length { found: 9, .. }),
            "{error}"
        );
        let missing = SealingKey::from_key_file(&folder.path().join("none"));
        assert!(matches!(missing, Err(KeyError::Read { .. })));
    }

    #[test]
    fn a_credential_is_read_from_the_folder_the_service_manager_names() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("consilium-seal"), [4; 32]).expect("room");
        let passed = Some(folder.path().as_os_str().to_owned());
        let key = SealingKey::from_credential_in(passed, "consilium-seal").expect("is there");
        let sealed = SealingKey::from_bytes([4; 32])
            .seal("x", b"y")
            .expect("randomness");
        assert_eq!(key.open("x", &sealed).expect("same key").as_slice(), b"y");
        let error = SealingKey::from_credential_in(None, "consilium-seal").expect_err("none");
        assert!(
            error.to_string().contains("LoadCredentialEncrypted"),
            "{error}"
        );
    }

    #[test]
    fn keys_do_not_print() {
        let key = SealingKey::stretched("correct horse", FEW);
        assert_eq!(format!("{key:?}"), "SealingKey(a passphrase, [redacted])");
    }
}
