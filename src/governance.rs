//! The governance folder: the federation's key and the roster history that it signed.
//!
//! It belongs on another machine than the coordinator. What leaves it is the roster history, a
//! file that the coordinator imports and everybody can check against the key's fingerprint, the
//! *trust root*.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use consilium_privacy::seal::{SealingKey, read_sealed, write_private, write_sealed};
use consilium_proto::{
    Digest, ErrorCode, Member, Roster, Signed, Signer, roster::Application, wire,
};
use prost::Message as _;

use crate::failure::{Classify as _, refuse};

/// The sealed key's file. A coordinator refuses to serve from a folder that holds one.
pub const KEY_FILE: &str = "governance.key.sealed";
/// The signed history's file.
pub const ROSTER_FILE: &str = "roster.bin";
/// What the sealed key is bound to.
const CONTEXT: &str = "governance.key.sealed";
/// Most bytes of a roster file that is read: 256 MiB.
const ROSTER_LIMIT: u64 = 256 << 20;
const DAY: u64 = 86_400;

/// The key that admits and revokes, with everything it has signed.
pub struct Governance {
    folder: PathBuf,
    signer: Signer,
    history: Vec<Signed>,
    roster: Roster,
}

impl Governance {
    /// Makes the key and epoch 0 of the roster, in a folder that has none.
    ///
    /// # Errors
    /// The folder holds a key already, or cannot be written.
    pub fn init(folder: &Path, key: &SealingKey, now: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let path = folder.join(KEY_FILE);
        if path.exists() {
            let message = format!("{} holds a governance key already", folder.display());
            return refuse(ErrorCode::Precondition, message);
        }
        let pkcs8 = zeroize::Zeroizing::new(Signer::generate()?);
        let signer = Signer::from_pkcs8(&pkcs8)?;
        let history = vec![Roster::found(&signer, now)];
        let roster = Roster::open_history(&history, &signer.public_key().fingerprint())?;
        // The key comes last: a folder without it can be started again.
        write_history(&folder.join(ROSTER_FILE), &history)?;
        write_sealed(&path, key, CONTEXT, &pkcs8)?;
        Ok(Self {
            folder: folder.to_owned(),
            signer,
            history,
            roster,
        })
    }

    /// Opens the folder that [`Self::init`] made.
    ///
    /// # Errors
    /// A wrong key, or a history that this key did not sign.
    pub fn open(folder: &Path, key: &SealingKey) -> Result<Self> {
        let path = folder.join(KEY_FILE);
        if !path.exists() {
            return refuse(
                ErrorCode::Missing,
                format!(
                    "{} holds no governance key: `consilium governance init --dir {0}` makes one",
                    folder.display()
                ),
            );
        }
        let pkcs8 = read_sealed(&path, key, CONTEXT).classify(ErrorCode::Denied)?;
        let signer = Signer::from_pkcs8(&pkcs8)?;
        let history = read_history(&folder.join(ROSTER_FILE))?;
        let roster = Roster::open_history(&history, &signer.public_key().fingerprint())?;
        Ok(Self {
            folder: folder.to_owned(),
            signer,
            history,
            roster,
        })
    }

    /// Fingerprint of the key: what every node is told to trust.
    pub fn trust_root(&self) -> Digest {
        self.signer.public_key().fingerprint()
    }

    /// The last epoch.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// All epochs, signed.
    pub fn history(&self) -> &[Signed] {
        &self.history
    }

    /// Makes an applicant a member for some days from now (seconds since 1970) on.
    ///
    /// # Errors
    /// A broken application, a name or key that is taken, a disk that is full: the roster stays.
    pub fn admit(&mut self, application: &Signed, days: u32, now: u64) -> Result<Member> {
        let application = Application::open(application)?;
        let key = application.identity_key;
        let not_after = now + u64::from(days) * DAY;
        let signed = self
            .roster
            .admit(application, &self.signer, now, not_after)?;
        self.extend(signed)?;
        let member = self.roster.by_identity_key(&key);
        member
            .cloned()
            .context("the new epoch lacks its new member")
    }

    /// Puts a member out, by number or by name.
    ///
    /// # Errors
    /// Nobody is called so, or the member is out already.
    pub fn revoke(&mut self, who: &str, now: u64) -> Result<Member> {
        let is_meant = |member: &&Member| {
            member.id.to_string() == who || (member.name.as_str() == who && !member.revoked)
        };
        let Some(member) = self.roster.members().find(is_meant).cloned() else {
            let message =
                format!("no member is called {who:?}: `consilium governance show` lists them");
            return refuse(ErrorCode::Missing, message);
        };
        if member.revoked {
            return refuse(
                ErrorCode::Precondition,
                format!("{} is revoked already", member.name),
            );
        }
        let signed = self.roster.revoke(member.id, &self.signer, now)?;
        self.extend(signed)?;
        Ok(member)
    }

    fn extend(&mut self, signed: Signed) -> Result<()> {
        let next = self.roster.open_next(&signed)?;
        let history = self
            .history
            .iter()
            .cloned()
            .chain([signed])
            .collect::<Vec<_>>();
        write_history(&self.folder.join(ROSTER_FILE), &history)?;
        self.roster = next;
        self.history = history;
        Ok(())
    }
}

/// Writes a history as a file to hand in: each epoch with its length before it.
///
/// # Errors
/// The file cannot be written.
pub fn write_history(path: &Path, history: &[Signed]) -> Result<()> {
    let bytes: Vec<u8> = history
        .iter()
        .flat_map(|signed| wire::Signed::from(signed.clone()).encode_length_delimited_to_vec())
        .collect();
    write_private(path, &bytes)?;
    Ok(())
}

/// Reads what [`write_history`] wrote; believed by nobody yet.
///
/// # Errors
/// The file cannot be read, or is no history.
pub fn read_history(path: &Path) -> Result<Vec<Signed>> {
    let context = || format!("reading the roster {}", path.display());
    if std::fs::metadata(path).with_context(context)?.len() > ROSTER_LIMIT {
        return refuse(
            ErrorCode::Invalid,
            format!("{} is too large for a roster", path.display()),
        );
    }
    let bytes = std::fs::read(path).with_context(context)?;
    let mut rest = bytes.as_slice();
    let mut history = Vec::new();
    while !rest.is_empty() {
        let signed = wire::Signed::decode_length_delimited(&mut rest)
            .with_context(context)
            .classify(ErrorCode::Invalid)?;
        history.push(Signed::try_from(signed).with_context(context)?);
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use consilium_proto::Role;

    use super::*;

    fn key() -> SealingKey {
        SealingKey::from_bytes([3; 32])
    }

    fn application(name: &str, role: Role) -> Signed {
        let signer = Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a key");
        Application {
            name: name.parse().expect("a name"),
            role,
            identity_key: signer.public_key(),
            tls_key_digest: signer.public_key().fingerprint(),
        }
        .sign(&signer)
    }

    #[test]
    fn what_was_admitted_and_revoked_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut governance = Governance::init(folder.path(), &key(), 1000).expect("a folder");
        let site = governance
            .admit(&application("north", Role::Site), 30, 1000)
            .expect("new");
        governance
            .admit(&application("south", Role::Site), 30, 1000)
            .expect("new");
        governance.revoke("north", 1001).expect("a member");
        let root = governance.trust_root();

        let again = Governance::open(folder.path(), &key()).expect("its own folder");
        assert_eq!(again.trust_root(), root);
        assert_eq!(again.roster().epoch(), 3);
        assert!(
            again
                .roster()
                .member(site.id)
                .expect("never dropped")
                .revoked
        );
        assert_eq!(site.not_after, 1000 + 30 * DAY);
        Roster::open_history(again.history(), &root).expect("a history that others believe");
    }

    #[test]
    fn names_that_are_taken_or_unknown_are_refused_and_change_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut governance = Governance::init(folder.path(), &key(), 1000).expect("a folder");
        governance
            .admit(&application("north", Role::Site), 30, 1000)
            .expect("new");
        assert!(
            governance
                .admit(&application("north", Role::Site), 30, 1000)
                .is_err()
        );
        assert!(governance.revoke("east", 1000).is_err());
        governance.revoke("1", 1000).expect("by number");
        assert!(governance.revoke("1", 1000).is_err());
        assert_eq!(governance.roster().epoch(), 2);
    }

    #[test]
    fn a_folder_is_made_once_and_opens_with_its_key_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Governance::open(folder.path(), &key()).is_err());
        Governance::init(folder.path(), &key(), 1000).expect("a folder");
        assert!(Governance::init(folder.path(), &key(), 1000).is_err());
        assert!(Governance::open(folder.path(), &SealingKey::from_bytes([4; 32])).is_err());
    }

    #[test]
    fn a_file_that_is_no_history_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("roster");
        std::fs::write(&path, b"\x05abc").expect("a file");
        assert!(read_history(&path).is_err());
        assert!(read_history(&folder.path().join("none")).is_err());
    }
}
