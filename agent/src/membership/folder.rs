//! The files of a member's folder, mode 0600, each written whole or not at all.
//!
//! | file | what it holds |
//! |---|---|
//! | `member.toml` | name, role, coordinator, trust root |
//! | `identity.key`, `tls.key` | private keys, PKCS#8, sealed |
//! | `application.bin` | the signed application |
//! | `certificate.bin` | the present certificate chain |
//! | `roster/<epoch>.bin` | each epoch as governance signed it |

use std::{
    fs,
    path::{Path, PathBuf},
};

use consilium_privacy::seal::{FileError, SealingKey, read_sealed, write_private, write_sealed};
use consilium_proto::{
    Digest, MemberName, Role, Signed, Signer,
    rpc::{Coordinator, TlsIdentity},
    wire,
};
use prost::Message as _;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::MembershipError;

const PROFILE: &str = "member.toml";
const IDENTITY_KEY: &str = "identity.key";
const TLS_KEY: &str = "tls.key";
const APPLICATION: &str = "application.bin";
const CERTIFICATE: &str = "certificate.bin";
const ROSTER: &str = "roster";

/// What a member was told out of band, and what it calls itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub(super) name: MemberName,
    pub(super) role: Role,
    /// `host:port`.
    pub(super) coordinator: String,
    /// SHA-256 of its TLS key's SubjectPublicKeyInfo.
    pub(super) coordinator_key: Digest,
    /// Fingerprint of the governance key.
    pub(super) trust_root: Digest,
}

impl Profile {
    pub(super) fn new(
        name: &MemberName,
        role: Role,
        coordinator: &Coordinator,
        trust_root: Digest,
    ) -> Self {
        Self {
            name: name.clone(),
            role,
            coordinator: coordinator.address().to_owned(),
            coordinator_key: coordinator.key_digest(),
            trust_root,
        }
    }
}

/// A member's folder.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder and its keys. The profile goes last: without it there is no member.
    pub(super) fn create(
        path: &Path,
        key: &SealingKey,
        profile: &Profile,
    ) -> Result<Self, MembershipError> {
        let folder = Self(path.to_owned());
        if folder.file(PROFILE).exists() {
            return Err(MembershipError::AlreadyAMember(path.display().to_string()));
        }
        make_private_folder(path)?;
        let identity = Zeroizing::new(Signer::generate()?);
        let tls = Zeroizing::new(TlsIdentity::generate()?);
        write_sealed(&folder.file(IDENTITY_KEY), key, IDENTITY_KEY, &identity)?;
        write_sealed(&folder.file(TLS_KEY), key, TLS_KEY, &tls)?;
        let text = toml::to_string(profile).map_err(|error| damaged(PROFILE, error))?;
        write_private(&folder.file(PROFILE), text.as_bytes())?;
        Ok(folder)
    }

    pub(super) fn open(path: &Path) -> Result<Self, MembershipError> {
        let folder = Self(path.to_owned());
        if !folder.file(PROFILE).exists() {
            return Err(MembershipError::NotAMember(path.display().to_string()));
        }
        Ok(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn profile(&self) -> Result<Profile, MembershipError> {
        let bytes = self.read(PROFILE)?;
        let text = String::from_utf8(bytes).map_err(|error| damaged(PROFILE, error))?;
        toml::from_str(&text).map_err(|error| damaged(PROFILE, error))
    }

    pub(super) fn identity_key(
        &self,
        key: &SealingKey,
    ) -> Result<Zeroizing<Vec<u8>>, MembershipError> {
        Ok(read_sealed(&self.file(IDENTITY_KEY), key, IDENTITY_KEY)?)
    }

    pub(super) fn tls_key(&self, key: &SealingKey) -> Result<Zeroizing<Vec<u8>>, MembershipError> {
        Ok(read_sealed(&self.file(TLS_KEY), key, TLS_KEY)?)
    }

    pub(super) fn write_application(&self, signed: &Signed) -> Result<(), MembershipError> {
        Ok(write_private(&self.file(APPLICATION), &signed.to_bytes())?)
    }

    pub(super) fn has_certificate(&self) -> bool {
        self.file(CERTIFICATE).exists()
    }

    pub(super) fn certificate(
        &self,
    ) -> Result<Option<Vec<CertificateDer<'static>>>, MembershipError> {
        if !self.has_certificate() {
            return Ok(None);
        }
        let bytes = self.read(CERTIFICATE)?;
        let certificate = wire::Certificate::decode(bytes.as_slice())
            .map_err(|error| damaged(CERTIFICATE, error))?;
        Ok(Some(
            certificate
                .chain
                .into_iter()
                .map(CertificateDer::from)
                .collect(),
        ))
    }

    pub(super) fn write_certificate(
        &self,
        chain: &[CertificateDer<'static>],
    ) -> Result<(), MembershipError> {
        let chain = chain
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect();
        let bytes = wire::Certificate { chain }.encode_to_vec();
        Ok(write_private(&self.file(CERTIFICATE), &bytes)?)
    }

    /// All stored epochs, from 0 on.
    pub(super) fn roster(&self) -> Result<Vec<Signed>, MembershipError> {
        let mut history = Vec::new();
        loop {
            let file = self.epoch_file(history.len() as u64);
            if !file.exists() {
                return Ok(history);
            }
            let bytes = fs::read(&file).map_err(|source| failed("read", &file, source))?;
            history.push(Signed::from_bytes(&bytes).map_err(|error| damaged(ROSTER, error))?);
        }
    }

    /// Adds epochs, oldest first: after a crash a beginning of them is there, which verifies.
    pub(super) fn append_roster(&self, from: u64, new: &[Signed]) -> Result<(), MembershipError> {
        make_private_folder(&self.file(ROSTER))?;
        for (epoch, signed) in (from..).zip(new) {
            write_private(&self.epoch_file(epoch), &signed.to_bytes())?;
        }
        Ok(())
    }

    fn epoch_file(&self, epoch: u64) -> PathBuf {
        self.file(ROSTER).join(format!("{epoch:06}.bin"))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, MembershipError> {
        let file = self.file(name);
        fs::read(&file).map_err(|source| failed("read", &file, source))
    }
}

fn damaged(file: &'static str, reason: impl ToString) -> MembershipError {
    MembershipError::Damaged {
        file,
        reason: reason.to_string(),
    }
}

fn failed(what: &'static str, path: &Path, source: std::io::Error) -> MembershipError {
    FileError::Io {
        what,
        path: path.to_owned(),
        source,
    }
    .into()
}

fn make_private_folder(path: &Path) -> Result<(), MembershipError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder
        .create(path)
        .map_err(|source| failed("create", path, source))
}
