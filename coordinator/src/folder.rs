//! The coordinator's data folder: keys, settings, database, blobs.
//!
//! | file | what it is |
//! |---|---|
//! | `settings.toml` | what the operator chose |
//! | `trust-root` | fingerprint of the governance key, pinned when the folder was made |
//! | `application.bin` | the coordinator's own request to join |
//! | `identity.key.sealed` | Ed25519 key that signs rounds and cards |
//! | `tls.key.sealed` | key of its connections |
//! | `authority.key.sealed`, `authority.der` | the certificate authority |
//! | `coordinator.sqlite` | everything but vectors |
//! | `blobs/` | sealed vectors |
//! | `lock` | held while a coordinator serves the folder |

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use consilium_privacy::seal::{FileError, SealingKey, read_sealed, write_private, write_sealed};
use consilium_proto::{
    Digest, MemberName, OutOfRange, Role, Roster, Signed, Signer,
    roster::{Application, RosterError},
    rpc::{TlsIdentity, TlsIdentityError},
};
use rustls_pki_types::CertificateDer;

use crate::{
    certificates::{Authority, CertificateError},
    roster::{self, MembersError},
    settings::{Settings, SettingsError},
    store::{SqliteStore, Store as _, StoreError},
};

const IDENTITY: (&str, &str) = ("identity.key.sealed", "coordinator identity key");
const TLS: (&str, &str) = ("tls.key.sealed", "coordinator TLS key");
const AUTHORITY: (&str, &str) = ("authority.key.sealed", "coordinator authority key");
const AUTHORITY_CERTIFICATE: &str = "authority.der";
const TRUST_ROOT: &str = "trust-root";
const APPLICATION: &str = "application.bin";
const SETTINGS: &str = "settings.toml";
const DATABASE: &str = "coordinator.sqlite";
const BLOBS: &str = "blobs";
const LOCK: &str = "lock";
/// Where governance keeps its key; it must not lie where a coordinator serves.
const GOVERNANCE: &str = "governance.key.sealed";

/// Why a data folder cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is a coordinator's folder already.
    #[error("{} is a coordinator's folder already: choose another one", .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("{} is no coordinator's folder: make one with `coordinator init`", .0.display())]
    Absent(PathBuf),
    /// Governance's key lies in it.
    #[error(
        "the governance key lies in {}: whoever runs this coordinator could admit sites of their \
         own. Move it to another machine, then start again",
        .0.display()
    )]
    HoldsGovernance(PathBuf),
    /// Another process serves it.
    #[error("another coordinator is serving {}: stop it first", .0.display())]
    InUse(PathBuf),
    /// The file system refuses.
    #[error("{} cannot be used", .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be sealed, opened or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A stored value is not what it should be.
    #[error(transparent)]
    Value(#[from] OutOfRange),
    /// The TLS key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsIdentityError),
    /// The certificate authority cannot be used.
    #[error(transparent)]
    Authority(#[from] CertificateError),
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A roster epoch is not believed.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// A stored application is not believed.
    #[error(transparent)]
    Roster(#[from] RosterError),
}

/// A coordinator's data folder with its keys opened.
pub struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) key: Arc<SealingKey>,
    pub(crate) settings: Settings,
    pub(crate) trust_root: Digest,
    pub(crate) identity: Arc<Signer>,
    pub(crate) tls: Arc<TlsIdentity>,
    pub(crate) authority: Arc<Authority>,
    application: Signed,
}

impl Folder {
    /// Makes a folder with fresh keys, sealed under `key`, and returns the coordinator's request to
    /// join, to be admitted by governance. `trust_root` is the governance key's fingerprint.
    ///
    /// # Errors
    /// There is a coordinator in the folder already, or it cannot be written.
    pub fn init(
        path: &Path,
        key: &SealingKey,
        name: &MemberName,
        trust_root: Digest,
    ) -> Result<Signed, FolderError> {
        if path.join(APPLICATION).exists() {
            return Err(FolderError::Exists(path.to_owned()));
        }
        make_private_folder(path)?;
        make_private_folder(&path.join(BLOBS))?;
        let identity = Signer::generate()?;
        let tls = TlsIdentity::generate()?;
        let now = SystemTime::now().into();
        let (authority, certificate) = Authority::generate(&format!("{name} authority"), now)?;
        for ((file, context), pkcs8) in
            [(IDENTITY, &identity), (TLS, &tls), (AUTHORITY, &authority)]
        {
            write_sealed(&path.join(file), key, context, pkcs8)?;
        }
        let signer = Signer::from_pkcs8(&identity)?;
        let application = Application {
            name: name.clone(),
            role: Role::Coordinator,
            identity_key: signer.public_key(),
            tls_key_digest: TlsIdentity::new(&tls, None)?.key_digest(),
        };
        let signed = application.sign(&signer);
        write_private(&path.join(AUTHORITY_CERTIFICATE), &certificate)?;
        write_private(&path.join(TRUST_ROOT), format!("{trust_root}\n").as_bytes())?;
        Settings::default().save(&path.join(SETTINGS))?;
        // Last: a folder that has it is whole.
        write_private(&path.join(APPLICATION), &signed.to_bytes())?;
        Ok(signed)
    }

    /// Opens a folder that [`init`](Self::init) made.
    ///
    /// # Errors
    /// Not such a folder, another sealing key, unusable settings.
    pub fn open(path: &Path, key: SealingKey) -> Result<Self, FolderError> {
        let application = Signed::from_bytes(&read(path, APPLICATION)?)?;
        let open = |(file, context)| read_sealed(&path.join(file), &key, context);
        let identity = Arc::new(Signer::from_pkcs8(&open(IDENTITY)?)?);
        let tls = TlsIdentity::new(&open(TLS)?, None)?;
        let certificate = CertificateDer::from(read(path, AUTHORITY_CERTIFICATE)?);
        let authority = Arc::new(Authority::open(&open(AUTHORITY)?, certificate)?);
        Ok(Self {
            path: path.to_owned(),
            settings: Settings::load(&path.join(SETTINGS))?,
            trust_root: trust_root(path)?,
            key: Arc::new(key),
            identity,
            tls,
            authority,
            application,
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the settings of a folder lie.
    pub fn settings_file(path: &Path) -> PathBuf {
        path.join(SETTINGS)
    }

    /// What people compare before governance admits this coordinator.
    pub fn fingerprint(&self) -> Digest {
        Application::fingerprint(&self.application)
    }

    /// SHA-256 of its TLS key's SubjectPublicKeyInfo: what members pin.
    pub fn tls_key_digest(&self) -> Digest {
        self.tls.key_digest()
    }

    /// Stores roster epochs that continue the stored history; those that are stored already are
    /// passed over. Needs no key, and works while a coordinator serves the folder.
    ///
    /// # Errors
    /// An epoch that the pinned governance did not sign or that does not continue the history.
    pub async fn import_roster(path: &Path, epochs: &[Signed]) -> Result<Roster, FolderError> {
        let root = trust_root(path)?;
        let store = open_store(path).await?;
        let imported = roster::import(&store, &root, epochs, SystemTime::now().into()).await;
        store.close().await;
        Ok(imported?)
    }

    /// Requests to join whose key is not in the roster, by arrival.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn pending(path: &Path) -> Result<Vec<(Signed, Application)>, FolderError> {
        let root = trust_root(path)?;
        let store = open_store(path).await?;
        let history = store.roster(0).await?;
        let roster = match history.is_empty() {
            true => None,
            false => Some(Roster::open_history(&history, &root)?),
        };
        let mut pending = vec![];
        for signed in store.applications().await? {
            let application = Application::open(&signed)?;
            let key = &application.identity_key;
            if roster
                .as_ref()
                .is_none_or(|roster| roster.by_identity_key(key).is_none())
            {
                pending.push((signed, application));
            }
        }
        store.close().await;
        Ok(pending)
    }

    /// Every roster epoch that is stored, from 0.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn roster_history(path: &Path) -> Result<Vec<Signed>, FolderError> {
        let store = open_store(path).await?;
        let history = store.roster(0).await?;
        store.close().await;
        Ok(history)
    }

    /// Takes the folder for this process alone, until the returned file is dropped.
    pub(crate) fn lock(&self) -> Result<fs::File, FolderError> {
        if self.path.join(GOVERNANCE).exists() {
            return Err(FolderError::HoldsGovernance(self.path.clone()));
        }
        let path = self.path.join(LOCK);
        let failed = |source| FolderError::Io {
            path: path.clone(),
            source,
        };
        let mut options = fs::OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(FolderError::InUse(self.path.clone())),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.path.join(BLOBS)
    }
}

/// Opens the database of a folder.
pub(crate) async fn open_store(path: &Path) -> Result<SqliteStore, FolderError> {
    if !path.join(APPLICATION).exists() {
        return Err(FolderError::Absent(path.to_owned()));
    }
    Ok(SqliteStore::open(&path.join(DATABASE)).await?)
}

fn trust_root(path: &Path) -> Result<Digest, FolderError> {
    let text = read(path, TRUST_ROOT)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.trim().parse()?)
}

fn read(folder: &Path, file: &str) -> Result<Vec<u8>, FolderError> {
    let path = folder.join(file);
    fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FolderError::Absent(folder.to_owned()),
        _ => FolderError::Io { path, source },
    })
}

fn make_private_folder(path: &Path) -> Result<(), FolderError> {
    let failed = |source| FolderError::Io {
        path: path.to_owned(),
        source,
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Federation;

    fn key(byte: u8) -> SealingKey {
        SealingKey::from_bytes([byte; 32])
    }

    fn init(path: &Path) -> Result<Signed, FolderError> {
        let name = "coordinator".parse().expect("a sound name");
        Folder::init(path, &key(1), &name, Digest::plain(b"root"))
    }

    #[test]
    fn a_folder_is_made_once_and_opens_with_its_key_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("coordinator");
        let signed = init(&path).expect("an empty folder");
        let opened = Folder::open(&path, key(1)).expect("its key");
        assert_eq!(opened.fingerprint(), Application::fingerprint(&signed));
        let application = Application::open(&signed).expect("its own signature");
        assert_eq!(application.role, Role::Coordinator);
        assert_eq!(application.tls_key_digest, opened.tls_key_digest());
        let again = init(&path).expect_err("there is one already");
        assert!(matches!(again, FolderError::Exists(_)), "{again}");
        let Err(wrong) = Folder::open(&path, key(2)) else {
            panic!("another key opens it")
        };
        assert!(matches!(wrong, FolderError::File(_)), "{wrong}");
    }

    #[test]
    fn a_folder_that_is_none_says_how_to_make_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let Err(absent) = Folder::open(folder.path(), key(1)) else {
            panic!("nothing opens")
        };
        assert!(absent.to_string().contains("coordinator init"), "{absent}");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_what_is_in_a_folder() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("coordinator");
        init(&path).expect("an empty folder");
        for entry in fs::read_dir(&path).expect("a folder") {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
            let expected = if entry.path().is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{}", entry.path().display());
        }
    }

    #[tokio::test]
    async fn a_roster_of_another_governance_is_not_imported() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("coordinator");
        init(&path).expect("an empty folder");
        let stranger = Federation::of_sites(1);
        let refused = Folder::import_roster(&path, &stranger.epochs).await;
        let error = refused.expect_err("another trust root");
        assert!(error.to_string().contains("this node trusts"), "{error}");
        assert!(
            Folder::roster_history(&path)
                .await
                .expect("a folder")
                .is_empty()
        );
    }
}
