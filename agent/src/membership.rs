//! A member's folder: its keys, its certificate, and the roster it believes.
//!
//! Used by agents, and by researchers, auditors and operators through the command line. Keys are
//! made here and never leave; the trust root and the coordinator's TLS key were obtained out of
//! band and are pinned when the folder is made. The roster is believed epoch by epoch: one that
//! does not continue the last believed epoch is an alarm, never a correction.

mod error;
mod folder;
mod history;
#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use consilium_privacy::seal::SealingKey;
use consilium_proto::{
    Digest, ErrorCode, Member, MemberId, MemberName, OutOfRange, PublicKey, Role, Roster, Signed,
    Signer, SiteId,
    chunk::MESSAGE_LIMIT,
    roster::Application,
    rpc::{Coordinator, TlsIdentity, TlsIdentityError},
    wire::{self, enrolment_client::EnrolmentClient},
};
use rustls::pki_types::CertificateDer;
use tokio::sync::Mutex;
use tonic::transport::Channel;
use tracing::info;
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub use self::error::MembershipError;
use self::folder::{Folder, Profile};

/// Longest roster that is fetched, in epochs.
const MOST_EPOCHS: usize = 1 << 20;

/// Where an enrolment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// Governance has not decided.
    Pending,
    /// The roster names this member.
    Admitted(MemberId),
    /// Governance has put this member out.
    Revoked,
}

/// A member's folder, open.
pub struct Membership {
    folder: Folder,
    profile: Profile,
    identity: Arc<Signer>,
    /// With the certificate; vouches for itself until there is one.
    tls: Arc<TlsIdentity>,
    /// Vouches for itself: enough to apply and to collect, also when the certificate has expired.
    applicant: Arc<TlsIdentity>,
    roster: RwLock<Option<Roster>>,
    /// One change of roster and certificate at a time.
    changing: Mutex<()>,
}

impl Membership {
    /// Makes keys and writes the application, also to `application.bin`, to be carried by hand.
    /// Returns its fingerprint: what people compare before they admit.
    ///
    /// # Errors
    /// The folder holds a member, or cannot be written.
    pub fn create(
        path: &Path,
        key: &SealingKey,
        name: &MemberName,
        role: Role,
        coordinator: &Coordinator,
        trust_root: Digest,
    ) -> Result<(Self, Digest), MembershipError> {
        let profile = Profile::new(name, role, coordinator, trust_root);
        let folder = Folder::create(path, key, &profile)?;
        let membership = Self::with(folder, key)?;
        let application = membership.application();
        membership.folder.write_application(&application)?;
        Ok((membership, Application::fingerprint(&application)))
    }

    /// Opens a member's folder and believes its stored roster anew.
    ///
    /// # Errors
    /// No member there, another sealing key, a damaged file, a roster that does not verify.
    pub fn open(path: &Path, key: &SealingKey) -> Result<Self, MembershipError> {
        Self::with(Folder::open(path)?, key)
    }

    fn with(folder: Folder, key: &SealingKey) -> Result<Self, MembershipError> {
        let profile = folder.profile()?;
        let identity = Arc::new(Signer::from_pkcs8(&folder.identity_key(key)?)?);
        let tls_key = folder.tls_key(key)?;
        let applicant = TlsIdentity::new(&tls_key, None)?;
        let tls = TlsIdentity::new(&tls_key, folder.certificate()?)?;
        let history = folder.roster()?;
        let roster = match history.is_empty() {
            true => None,
            false => Some(
                Roster::open_history(&history, &profile.trust_root)
                    .map_err(MembershipError::Roster)?,
            ),
        };
        let (roster, changing) = (RwLock::new(roster), Mutex::new(()));
        Ok(Self {
            folder,
            profile,
            identity,
            tls,
            applicant,
            roster,
            changing,
        })
    }

    /// What people call this member.
    pub fn name(&self) -> &MemberName {
        &self.profile.name
    }

    /// What it asked to be.
    pub fn role(&self) -> Role {
        self.profile.role
    }

    /// Signs its statements.
    pub fn identity(&self) -> &Arc<Signer> {
        &self.identity
    }

    /// Where the coordinator is.
    ///
    /// # Errors
    /// The folder names none.
    pub fn coordinator(&self) -> Result<Coordinator, MembershipError> {
        Ok(Coordinator::new(
            &self.profile.coordinator,
            self.profile.coordinator_key,
        )?)
    }

    /// Fingerprint of the governance key that this member trusts.
    pub fn trust_root(&self) -> Digest {
        self.profile.trust_root
    }

    /// The identity key of a site that may act at the moment.
    pub fn key_of(&self, site: SiteId) -> Option<PublicKey> {
        let now = seconds(SystemTime::now());
        let roster = self.roster()?;
        let member = roster
            .member(site.0)
            .filter(|member| member.site() == Some(site))?;
        member.is_active(now).then_some(member.identity_key)
    }

    /// The last epoch believed.
    pub fn roster(&self) -> Option<Roster> {
        self.roster
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// This member in the roster, found by its keys.
    pub fn member(&self) -> Option<Member> {
        let roster = self.roster()?;
        let is_us = |member: &&Member| {
            member.identity_key == self.identity.public_key()
                && member.tls_key_digest == self.tls.key_digest()
        };
        roster.members().find(is_us).cloned()
    }

    /// This member's number, if it is a site.
    pub fn site_id(&self) -> Option<SiteId> {
        self.member()?.site()
    }

    /// The key with which the coordinator signs rounds and models.
    pub fn coordinator_identity_key(&self) -> Option<PublicKey> {
        let roster = self.roster()?;
        coordinator_of(&roster, self.profile.coordinator_key).map(|member| member.identity_key)
    }

    /// Digest of an epoch that was believed.
    ///
    /// # Errors
    /// The stored history cannot be read.
    pub fn roster_digest(&self, epoch: u64) -> Result<Option<Digest>, MembershipError> {
        let history = self.folder.roster()?;
        Ok(usize::try_from(epoch)
            .ok()
            .and_then(|at| history.get(at))
            .map(history::digest))
    }

    /// The epochs that were believed, from 0, as governance signed them.
    ///
    /// # Errors
    /// The stored history cannot be read.
    pub fn roster_history(&self) -> Result<Vec<Signed>, MembershipError> {
        self.folder.roster()
    }

    /// Hands in the application and returns its fingerprint. Safe to repeat.
    ///
    /// # Errors
    /// The coordinator cannot be reached, or refuses.
    pub async fn apply(&self) -> Result<Digest, MembershipError> {
        let application = self.application();
        let fingerprint = Application::fingerprint(&application);
        let channel = self.coordinator()?.connect(self.applicant.clone()).await?;
        let receipt = EnrolmentClient::new(channel)
            .apply(wire::Application {
                signed: Some(application.into()),
            })
            .await?
            .into_inner();
        if receipt.fingerprint != fingerprint.as_bytes() {
            let reason = "it received another application than was sent".into();
            return Err(MembershipError::Refused {
                code: ErrorCode::Internal,
                reason,
            });
        }
        Ok(fingerprint)
    }

    /// Fetches certificate and roster, once governance has admitted this member. Also how the
    /// certificate is renewed. Safe to repeat.
    ///
    /// # Errors
    /// The coordinator cannot be reached, or what it shows is not believed. Nothing is kept of
    /// what is not believed.
    pub async fn collect(&self) -> Result<Enrolment, MembershipError> {
        let _changing = self.changing.lock().await;
        let chain = match self.ask_for_certificate().await? {
            wire::admission::State::Pending(_) => return Ok(Enrolment::Pending),
            wire::admission::State::Revoked(_) => return Ok(Enrolment::Revoked),
            wire::admission::State::Certificate(certificate) => certificate.chain,
        };
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        self.tls.renew(chain.clone())?;
        let channel = self.coordinator()?.connect(self.tls.clone()).await?;
        let roster = self.fetch_roster(channel).await?;
        self.folder.write_certificate(&chain)?;
        let member = self.member().ok_or(MembershipError::NotNamed)?;
        info!(member = %member.id, epoch = roster.epoch(), "certificate collected");
        Ok(Enrolment::Admitted(member.id))
    }

    /// Opens a connection as this member. Renews the certificate first when less than a third of
    /// its life is left; when it has expired, too.
    ///
    /// # Errors
    /// Not admitted, revoked, or the coordinator cannot be reached.
    pub async fn connect(&self) -> Result<Channel, MembershipError> {
        if self.needs_certificate()? {
            match self.collect().await? {
                Enrolment::Admitted(_) => {}
                Enrolment::Pending => return Err(MembershipError::Pending),
                Enrolment::Revoked => return Err(MembershipError::Revoked),
            }
        }
        Ok(self.coordinator()?.connect(self.tls.clone()).await?)
    }

    /// Whether the certificate should be renewed: absent, or with less than a third of its life
    /// left.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn needs_certificate(&self) -> Result<bool, MembershipError> {
        if !self.folder.has_certificate() || self.roster().is_none() {
            return Ok(true);
        }
        Ok(is_old(&self.tls.chain(), seconds(SystemTime::now()))?)
    }

    /// Fetches the epochs after the last believed one.
    ///
    /// # Errors
    /// The coordinator cannot be reached, or its roster is not believed: then the last believed
    /// one stays.
    pub async fn refresh_roster(&self, channel: Channel) -> Result<Roster, MembershipError> {
        let _changing = self.changing.lock().await;
        self.fetch_roster(channel).await
    }

    async fn fetch_roster(&self, channel: Channel) -> Result<Roster, MembershipError> {
        let stored = self.folder.roster()?;
        // The last known epoch is asked for again: another one under its number is a fork.
        let from_epoch = stored.len().saturating_sub(1) as u64;
        let mut stream = EnrolmentClient::new(channel)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .roster(wire::RosterRequest { from_epoch })
            .await?
            .into_inner();
        let mut offered = Vec::new();
        while let Some(signed) = stream.message().await? {
            offered.push(Signed::try_from(signed)?);
            if offered.len() > MOST_EPOCHS {
                return Err(OutOfRange::new("roster", "below 1048576 epochs", "more").into());
            }
        }
        let (roster, new) = history::extend(&stored, offered, &self.profile.trust_root)?;
        self.check(&roster)?;
        self.folder.append_roster(stored.len() as u64, &new)?;
        *self.roster.write().unwrap_or_else(PoisonError::into_inner) = Some(roster.clone());
        Ok(roster)
    }

    /// Whether a roster names this member and the coordinator that was pinned.
    fn check(&self, roster: &Roster) -> Result<(), MembershipError> {
        let named = roster.members().any(|member| {
            member.identity_key == self.identity.public_key()
                && member.tls_key_digest == self.tls.key_digest()
                && member.role == self.profile.role
        });
        if !named {
            return Err(MembershipError::NotNamed);
        }
        coordinator_of(roster, self.profile.coordinator_key)
            .map(|_| ())
            .ok_or(MembershipError::UnknownCoordinator)
    }

    async fn ask_for_certificate(&self) -> Result<wire::admission::State, MembershipError> {
        let channel = self.coordinator()?.connect(self.applicant.clone()).await?;
        let request = wire::CollectRequest {
            certificate_request: self.applicant.certificate_request()?,
        };
        let admission = EnrolmentClient::new(channel)
            .collect(request)
            .await?
            .into_inner();
        admission
            .state
            .ok_or_else(|| OutOfRange::new("admission", "present", "nothing").into())
    }

    fn application(&self) -> Signed {
        let application = Application {
            name: self.profile.name.clone(),
            role: self.profile.role,
            identity_key: self.identity.public_key(),
            tls_key_digest: self.tls.key_digest(),
        };
        application.sign(&self.identity)
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Membership({} {})", self.profile.role, self.profile.name)
    }
}

/// The active coordinator with the pinned TLS key.
fn coordinator_of(roster: &Roster, key: Digest) -> Option<&Member> {
    let now = seconds(SystemTime::now());
    roster.members().find(|member| {
        member.role == Role::Coordinator && member.tls_key_digest == key && member.is_active(now)
    })
}

/// Whether less than a third of a certificate's life is left.
fn is_old(chain: &[CertificateDer<'static>], now: u64) -> Result<bool, TlsIdentityError> {
    let unreadable = |reason: String| TlsIdentityError::Certificate(reason);
    let leaf = chain
        .first()
        .ok_or_else(|| unreadable("the chain is empty".into()))?;
    let (_, leaf) =
        X509Certificate::from_der(leaf).map_err(|error| unreadable(error.to_string()))?;
    let validity = leaf.validity();
    let life = validity.not_after.timestamp() - validity.not_before.timestamp();
    Ok(validity.not_after.timestamp() - (now as i64) < life / 3)
}

fn seconds(moment: SystemTime) -> u64 {
    moment
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
