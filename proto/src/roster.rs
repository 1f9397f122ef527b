//! Who belongs to the federation: epochs of a list that governance alone can extend.
//!
//! Everybody pins the governance key's fingerprint (the *trust root*), obtained out of band. An
//! epoch is believed if governance signed it, its number follows the last one's and it names that
//! one's digest; members are never left out again, only marked as revoked. The coordinator relays
//! the roster and cannot extend it.

use std::{collections::BTreeMap, fmt, str::FromStr};

use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::{
    Digest, MemberId, MemberName, OutOfRange, PublicKey, Signed, Signer, SiteId,
    signed::{Purpose, SignatureError},
    wire,
};

/// What a member may do; never taken from a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs studies and serves the others.
    Coordinator,
    /// A hospital's agent.
    Site,
    /// Submits studies.
    Researcher,
    /// Reads what was spent on what.
    Auditor,
    /// Runs the coordinator.
    Operator,
}

impl Role {
    /// All roles that call the coordinator.
    pub const CALLERS: [Self; 4] = [Self::Site, Self::Researcher, Self::Auditor, Self::Operator];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coordinator => "coordinator",
            Self::Site => "site",
            Self::Researcher => "researcher",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        })
    }
}

impl FromStr for Role {
    type Err = OutOfRange;
    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        [Self::Coordinator]
            .into_iter()
            .chain(Self::CALLERS)
            .find(|role| role.to_string() == text)
            .ok_or_else(|| {
                let allowed = "coordinator, site, researcher, auditor or operator";
                OutOfRange::new("role", allowed, format!("{text:?}"))
            })
    }
}

/// One member of the federation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number, never given to another.
    pub id: MemberId,
    /// What people call it.
    pub name: MemberName,
    /// What it may do.
    pub role: Role,
    /// Signs its statements.
    pub identity_key: PublicKey,
    /// SHA-256 of its TLS key's SubjectPublicKeyInfo: what connections are recognised by.
    pub tls_key_digest: Digest,
    /// Seconds since 1970 from which it is a member.
    pub not_before: u64,
    /// Seconds since 1970 until which it is a member.
    pub not_after: u64,
    /// Whether governance has put it out.
    pub revoked: bool,
}

impl Member {
    /// Whether it may act at this time (seconds since 1970).
    pub fn is_active(&self, now: u64) -> bool {
        !self.revoked && (self.not_before..=self.not_after).contains(&now)
    }

    /// Its number as a site, if it is one.
    pub fn site(&self) -> Option<SiteId> {
        (self.role == Role::Site).then_some(SiteId(self.id))
    }
}

/// What an applicant asks governance for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// What people call it.
    pub name: MemberName,
    /// What it wants to do.
    pub role: Role,
    /// Its identity key, which signed this.
    pub identity_key: PublicKey,
    /// SHA-256 of its TLS key's SubjectPublicKeyInfo.
    pub tls_key_digest: Digest,
}

impl Application {
    /// Signs the request with the applicant's own identity key.
    pub fn sign(&self, signer: &Signer) -> Signed {
        let body = wire::ApplicationBody {
            name: self.name.to_string(),
            role: wire::Role::from(self.role).into(),
            identity_key: self.identity_key.as_bytes().to_vec(),
            tls_key_digest: self.tls_key_digest.as_bytes().to_vec(),
        };
        signer.sign(Purpose::Application, body.encode_to_vec())
    }

    /// Reads a request that its own key signed.
    ///
    /// # Errors
    /// A broken signature or fields that hold what they must not.
    pub fn open(signed: &Signed) -> Result<Self, RosterError> {
        let bytes = signed.verify(Purpose::Application, signed.signer())?;
        let body = wire::ApplicationBody::decode(bytes).map_err(malformed)?;
        let application = Self {
            name: body.name.parse()?,
            role: body.role().try_into()?,
            identity_key: body.identity_key.as_slice().try_into()?,
            tls_key_digest: body.tls_key_digest.as_slice().try_into()?,
        };
        if application.identity_key != *signed.signer() {
            return Err(SignatureError::WrongSigner.into());
        }
        Ok(application)
    }

    /// What people compare before they admit: the same on the applicant's and on governance's
    /// screen.
    pub fn fingerprint(signed: &Signed) -> Digest {
        Digest::of("consilium/application/1", &[signed.unverified_body()])
    }
}

/// Why a roster is not believed, or not extended.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// Not signed by governance, or changed since.
    #[error("roster not believed: {0}")]
    Signature(#[from] SignatureError),
    /// The governance key is not the one that was pinned.
    #[error("roster is signed by governance {found}, but this node trusts {pinned}")]
    OtherTrustRoot {
        /// What this node was told to trust.
        pinned: Digest,
        /// Who signed.
        found: Digest,
    },
    /// An epoch is missing, repeated with other content, or from another history.
    #[error("roster epoch {found} does not continue epoch {last}: the history was changed")]
    Discontinuous {
        /// The last epoch believed.
        last: u64,
        /// The one that was offered.
        found: u64,
    },
    /// A member of the last epoch is gone or turned into another.
    #[error("roster epoch {epoch} changes or drops member {member}, which no epoch may")]
    MemberChanged {
        /// The offered epoch.
        epoch: u64,
        /// Which member.
        member: MemberId,
    },
    /// A number, name or key occurs twice.
    #[error("{what} is already in the roster: {value}")]
    Duplicate {
        /// Number, name or key.
        what: &'static str,
        /// Which one.
        value: String,
    },
    /// A field holds what it must not.
    #[error(transparent)]
    Malformed(#[from] OutOfRange),
    /// The member is not there.
    #[error("no member {0} in the roster")]
    Unknown(String),
}

fn malformed(error: prost::DecodeError) -> RosterError {
    OutOfRange::new("signed body", "well formed", error).into()
}

/// One believed epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    epoch: u64,
    digest: Digest,
    governance: PublicKey,
    issued_at: u64,
    members: BTreeMap<MemberId, Member>,
}

impl Roster {
    /// Starts a federation: epoch 0, nobody in it.
    pub fn found(governance: &Signer, now: u64) -> Signed {
        let body = wire::RosterBody {
            epoch: 0,
            previous: vec![0; 32],
            members: vec![],
            issued_at: now,
        };
        governance.sign(Purpose::Roster, body.encode_to_vec())
    }

    /// Believes epoch 0 if the trusted governance signed it.
    ///
    /// # Errors
    /// Another trust root, a broken signature, an epoch other than 0.
    pub fn open_first(signed: &Signed, trust_root: &Digest) -> Result<Self, RosterError> {
        let found = signed.signer().fingerprint();
        if found != *trust_root {
            return Err(RosterError::OtherTrustRoot {
                pinned: *trust_root,
                found,
            });
        }
        let (roster, previous) = Self::read(signed, *signed.signer())?;
        if roster.epoch != 0 || previous.as_bytes() != &[0; 32] {
            return Err(RosterError::Discontinuous {
                last: 0,
                found: roster.epoch,
            });
        }
        Ok(roster)
    }

    /// Believes the epoch after this one.
    ///
    /// # Errors
    /// A broken signature, a gap, another history, a member dropped or changed.
    pub fn open_next(&self, signed: &Signed) -> Result<Self, RosterError> {
        let (next, previous) = Self::read(signed, self.governance)?;
        if next.epoch != self.epoch + 1 || previous != self.digest {
            return Err(RosterError::Discontinuous {
                last: self.epoch,
                found: next.epoch,
            });
        }
        for old in self.members.values() {
            let changed = || RosterError::MemberChanged {
                epoch: next.epoch,
                member: old.id,
            };
            let new = next.members.get(&old.id).ok_or_else(changed)?;
            let is_same = new.name == old.name
                && new.role == old.role
                && new.identity_key == old.identity_key
                && (new.revoked || !old.revoked);
            if !is_same {
                return Err(changed());
            }
        }
        Ok(next)
    }

    /// Believes a whole history and returns its last epoch.
    ///
    /// # Errors
    /// As [`Self::open_first`] and [`Self::open_next`]; an empty history.
    pub fn open_history(history: &[Signed], trust_root: &Digest) -> Result<Self, RosterError> {
        let Some((first, rest)) = history.split_first() else {
            return Err(OutOfRange::new("roster", "one epoch or more", "none").into());
        };
        rest.iter()
            .try_fold(Self::open_first(first, trust_root)?, |last, next| {
                last.open_next(next)
            })
    }

    fn read(signed: &Signed, governance: PublicKey) -> Result<(Self, Digest), RosterError> {
        let bytes = signed.verify(Purpose::Roster, &governance)?;
        let body = wire::RosterBody::decode(bytes).map_err(malformed)?;
        let previous = Digest::try_from(body.previous.as_slice())?;
        let mut members = BTreeMap::new();
        for wire in body.members {
            let member = Member::try_from(wire)?;
            is_new(members.values(), &member)?;
            members.insert(member.id, member);
        }
        let digest = Digest::of("consilium/roster/1", &[bytes]);
        let issued_at = body.issued_at;
        Ok((
            Self {
                epoch: body.epoch,
                digest,
                governance,
                issued_at,
                members,
            },
            previous,
        ))
    }

    /// Makes the next epoch with one more member, until `not_after` (seconds since 1970).
    ///
    /// # Errors
    /// A name or key that the roster has already; 65 535 members.
    pub fn admit(
        &self,
        application: Application,
        governance: &Signer,
        now: u64,
        not_after: u64,
    ) -> Result<Signed, RosterError> {
        let last = self.members.keys().last().map_or(0, |id| id.0);
        let id = last.checked_add(1).map(MemberId);
        let member = Member {
            id: id.ok_or_else(|| OutOfRange::new("roster", "below 65536 members", "more"))?,
            name: application.name,
            role: application.role,
            identity_key: application.identity_key,
            tls_key_digest: application.tls_key_digest,
            not_before: now,
            not_after,
            revoked: false,
        };
        is_new(self.members.values(), &member)?;
        Ok(self.extend(
            self.members.values().cloned().chain([member]),
            governance,
            now,
        ))
    }

    /// Makes the next epoch with one member put out.
    ///
    /// # Errors
    /// The member is not in the roster.
    pub fn revoke(
        &self,
        id: MemberId,
        governance: &Signer,
        now: u64,
    ) -> Result<Signed, RosterError> {
        if !self.members.contains_key(&id) {
            return Err(RosterError::Unknown(id.to_string()));
        }
        let members = self.members.values().cloned().map(|mut member| {
            member.revoked |= member.id == id;
            member
        });
        Ok(self.extend(members, governance, now))
    }

    fn extend(
        &self,
        members: impl Iterator<Item = Member>,
        governance: &Signer,
        now: u64,
    ) -> Signed {
        let body = wire::RosterBody {
            epoch: self.epoch + 1,
            previous: self.digest.as_bytes().to_vec(),
            members: members.map(wire::Member::from).collect(),
            issued_at: now,
        };
        governance.sign(Purpose::Roster, body.encode_to_vec())
    }

    /// Its number, from 0.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Its identity, which the next epoch names.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Who signs this roster.
    pub fn governance(&self) -> &PublicKey {
        &self.governance
    }

    /// When it was made, seconds since 1970.
    pub fn issued_at(&self) -> u64 {
        self.issued_at
    }

    /// All members, by number.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member by number.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The member whose TLS key this is, revoked or not.
    pub fn by_tls_key(&self, digest: &Digest) -> Option<&Member> {
        self.members
            .values()
            .find(|member| member.tls_key_digest == *digest)
    }

    /// The member who signs with this key, revoked or not.
    pub fn by_identity_key(&self, key: &PublicKey) -> Option<&Member> {
        self.members
            .values()
            .find(|member| member.identity_key == *key)
    }

    /// Sites that may act at this time (seconds since 1970), by number.
    pub fn active_sites(&self, now: u64) -> impl Iterator<Item = &Member> {
        self.members()
            .filter(move |member| member.role == Role::Site && member.is_active(now))
    }

    /// The coordinators that may act at this time (seconds since 1970).
    pub fn coordinators(&self, now: u64) -> impl Iterator<Item = &Member> {
        self.members()
            .filter(move |member| member.role == Role::Coordinator && member.is_active(now))
    }
}

fn is_new<'a>(members: impl Iterator<Item = &'a Member>, new: &Member) -> Result<(), RosterError> {
    for member in members {
        let (what, value) = if member.id == new.id {
            ("member number", new.id.to_string())
        } else if member.identity_key == new.identity_key {
            ("identity key", new.identity_key.fingerprint().to_short())
        } else if member.tls_key_digest == new.tls_key_digest {
            ("TLS key", new.tls_key_digest.to_short())
        } else if member.name == new.name && !member.revoked && !new.revoked {
            ("name", new.name.to_string())
        } else {
            continue;
        };
        return Err(RosterError::Duplicate { what, value });
    }
    Ok(())
}

impl From<Role> for wire::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Coordinator => Self::Coordinator,
            Role::Site => Self::Site,
            Role::Researcher => Self::Researcher,
            Role::Auditor => Self::Auditor,
            Role::Operator => Self::Operator,
        }
    }
}

impl TryFrom<wire::Role> for Role {
    type Error = OutOfRange;
    fn try_from(role: wire::Role) -> Result<Self, OutOfRange> {
        match role {
            wire::Role::Coordinator => Ok(Self::Coordinator),
            wire::Role::Site => Ok(Self::Site),
            wire::Role::Researcher => Ok(Self::Researcher),
            wire::Role::Auditor => Ok(Self::Auditor),
            wire::Role::Operator => Ok(Self::Operator),
            wire::Role::Unspecified => Err(OutOfRange::new("role", "specified", "none")),
        }
    }
}

impl From<Member> for wire::Member {
    fn from(member: Member) -> Self {
        Self {
            id: member.id.0.into(),
            name: member.name.to_string(),
            role: wire::Role::from(member.role).into(),
            identity_key: member.identity_key.as_bytes().to_vec(),
            tls_key_digest: member.tls_key_digest.as_bytes().to_vec(),
            not_before: member.not_before,
            not_after: member.not_after,
            revoked: member.revoked,
        }
    }
}

impl TryFrom<wire::Member> for Member {
    type Error = OutOfRange;
    fn try_from(wire: wire::Member) -> Result<Self, OutOfRange> {
        Ok(Self {
            id: wire.id.try_into()?,
            role: wire.role().try_into()?,
            name: wire.name.parse()?,
            identity_key: wire.identity_key.as_slice().try_into()?,
            tls_key_digest: wire.tls_key_digest.as_slice().try_into()?,
            not_before: wire.not_before,
            not_after: wire.not_after,
            revoked: wire.revoked,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const YEAR: u64 = 365 * 86_400;

    fn signer() -> Signer {
        Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a fresh key")
    }

    fn applicant(name: &str, role: Role) -> Application {
        let identity_key = signer().public_key();
        let tls_key_digest = Digest::plain(identity_key.as_bytes());
        let name = name.parse().expect("a sound name");
        Application {
            name,
            role,
            identity_key,
            tls_key_digest,
        }
    }

    fn founded(governance: &Signer) -> Roster {
        let root = governance.public_key().fingerprint();
        Roster::open_first(&Roster::found(governance, NOW), &root).expect("our own epoch")
    }

    #[test]
    fn a_history_is_believed_epoch_by_epoch() {
        let governance = signer();
        let first = Roster::found(&governance, NOW);
        let root = governance.public_key().fingerprint();
        let roster = Roster::open_first(&first, &root).expect("our own epoch");
        let second = roster
            .admit(applicant("A", Role::Site), &governance, NOW, NOW + YEAR)
            .expect("a new member");
        let roster = roster.open_next(&second).expect("the next epoch");
        let third = roster
            .revoke(MemberId(1), &governance, NOW)
            .expect("a known member");
        let last = Roster::open_history(&[first, second.clone(), third], &root).expect("a chain");
        assert_eq!(last.epoch(), 2);
        assert!(
            !last
                .member(MemberId(1))
                .expect("still there")
                .is_active(NOW)
        );
        assert!(matches!(
            last.open_next(&second),
            Err(RosterError::Discontinuous { .. })
        ));
    }

    #[test]
    fn nobody_but_governance_can_extend_a_roster() {
        let (governance, liar) = (signer(), signer());
        let roster = founded(&governance);
        let forged = roster
            .admit(applicant("A", Role::Site), &liar, NOW, NOW + YEAR)
            .expect("signing works for anybody");
        assert!(matches!(
            roster.open_next(&forged),
            Err(RosterError::Signature(_))
        ));
        let other = Roster::found(&liar, NOW);
        let root = governance.public_key().fingerprint();
        let refused = Roster::open_first(&other, &root);
        assert!(matches!(refused, Err(RosterError::OtherTrustRoot { .. })));
    }

    #[test]
    fn members_do_not_vanish_and_revocation_is_final() {
        let governance = signer();
        let roster = founded(&governance);
        let admit = |roster: &Roster, name| {
            let next = roster.admit(applicant(name, Role::Site), &governance, NOW, NOW + YEAR);
            roster
                .open_next(&next.expect("a new member"))
                .expect("the next epoch")
        };
        let roster = admit(&admit(&roster, "A"), "B");
        let revoked = roster
            .revoke(MemberId(1), &governance, NOW)
            .expect("a known member");
        let revoked = roster.open_next(&revoked).expect("the next epoch");
        let dropped = revoked.extend(
            revoked.members().filter(|member| member.id.0 != 1).cloned(),
            &governance,
            NOW,
        );
        let is_changed = |result| matches!(result, Err(RosterError::MemberChanged { .. }));
        assert!(is_changed(revoked.open_next(&dropped)));
        let back = revoked.members().cloned().map(|mut member| {
            member.revoked = false;
            member
        });
        let back = revoked.extend(back, &governance, NOW);
        assert!(is_changed(revoked.open_next(&back)));
    }

    #[test]
    fn the_same_key_or_name_cannot_join_twice() {
        let governance = signer();
        let application = applicant("A", Role::Site);
        let roster = founded(&governance);
        let next = roster
            .admit(application.clone(), &governance, NOW, NOW + YEAR)
            .expect("a new member");
        let roster = roster.open_next(&next).expect("the next epoch");
        for again in [application, applicant("A", Role::Site)] {
            let refused = roster.admit(again, &governance, NOW, NOW + YEAR);
            assert!(matches!(refused, Err(RosterError::Duplicate { .. })));
        }
    }

    #[test]
    fn an_application_is_bound_to_its_own_key() {
        let (ours, other) = (signer(), signer());
        let mut application = applicant("A", Role::Researcher);
        application.identity_key = ours.public_key();
        let opened = Application::open(&application.sign(&ours)).expect("its own signature");
        assert_eq!(opened, application);
        assert!(Application::open(&application.sign(&other)).is_err());
    }
}
