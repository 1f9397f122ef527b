//! The roster's epochs, as they were signed.

use consilium_proto::{Digest, Roster, Signed, roster::RosterError};

use super::MembershipError;

/// Digest of an epoch as round specifications name it.
pub(super) fn digest(signed: &Signed) -> Digest {
    Digest::of("consilium/roster/1", &[signed.unverified_body()])
}

/// Believes what the coordinator offers after what is stored, and returns the last epoch with the
/// ones that are new. The offer may repeat stored epochs: they must be the same.
///
/// # Errors
/// Another history than the stored one, a gap, a signature that is not governance's.
pub(super) fn extend(
    stored: &[Signed],
    offered: Vec<Signed>,
    trust_root: &Digest,
) -> Result<(Roster, Vec<Signed>), MembershipError> {
    let mut known = stored.to_vec();
    let mut new = Vec::new();
    let mut roster = match stored.is_empty() {
        true => None,
        false => Some(Roster::open_history(stored, trust_root).map_err(MembershipError::Roster)?),
    };
    for signed in offered {
        if known
            .iter()
            .any(|old| old.unverified_body() == signed.unverified_body())
        {
            continue;
        }
        let next = match &roster {
            None => Roster::open_first(&signed, trust_root),
            Some(last) => last.open_next(&signed),
        };
        let next = next.map_err(|error| match (error, &roster) {
            // Signed by governance under a number that is taken: two histories.
            (RosterError::Discontinuous { found, .. }, Some(last)) if found <= last.epoch() + 1 => {
                MembershipError::Fork { epoch: found }
            }
            (error, _) => MembershipError::Roster(error),
        })?;
        roster = Some(next);
        known.push(signed.clone());
        new.push(signed);
    }
    let empty = || {
        let missing = consilium_proto::OutOfRange::new("roster", "one epoch or more", "none");
        MembershipError::Roster(missing.into())
    };
    Ok((roster.ok_or_else(empty)?, new))
}
