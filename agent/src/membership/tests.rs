use consilium_proto::roster::{Application, RosterError};

use super::*;

const YEAR: u64 = 365 * 86_400;

fn key() -> SealingKey {
    SealingKey::from_bytes([3; 32])
}

fn signer() -> Signer {
    Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a fresh key")
}

fn coordinator() -> Coordinator {
    Coordinator::new("localhost:7443", Digest::plain(b"its key")).expect("an address")
}

fn create(path: &Path) -> Result<(Membership, Digest), MembershipError> {
    let name = "St. Mary's".parse().expect("a name");
    Membership::create(
        path,
        &key(),
        &name,
        Role::Site,
        &coordinator(),
        Digest::plain(b"root"),
    )
}

/// Epochs 0 to `length - 1`: each admits one member.
fn history(governance: &Signer, length: u64, prefix: &str) -> Vec<Signed> {
    let first = Roster::found(governance, 0);
    let mut roster =
        Roster::open_first(&first, &governance.public_key().fingerprint()).expect("its own");
    let mut history = vec![first];
    for at in 1..length {
        let (name, key) = (format!("{prefix} {at}"), signer().public_key());
        let application = Application {
            name: name.parse().expect("a name"),
            role: Role::Site,
            identity_key: key,
            tls_key_digest: Digest::plain(key.as_bytes()),
        };
        let next = roster
            .admit(application, governance, 0, YEAR)
            .expect("a new member");
        roster = roster.open_next(&next).expect("the next epoch");
        history.push(next);
    }
    history
}

#[test]
fn keys_are_made_once_and_a_folder_opens_with_its_own_key_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (made, fingerprint) = create(folder.path()).expect("an empty folder");
    let opened = Membership::open(folder.path(), &key()).expect("its own key");
    assert_eq!(opened.identity.public_key(), made.identity.public_key());
    assert_eq!(opened.tls.key_digest(), made.tls.key_digest());
    assert_eq!(Application::fingerprint(&opened.application()), fingerprint);
    assert_eq!(opened.coordinator().expect("an address"), coordinator());
    assert!(opened.roster().is_none() && opened.site_id().is_none());
    assert!(opened.needs_certificate().expect("none yet"));

    let again = create(folder.path()).expect_err("a member lives here");
    assert!(
        matches!(again, MembershipError::AlreadyAMember(_)),
        "{again}"
    );
    let other = Membership::open(folder.path(), &SealingKey::from_bytes([4; 32]));
    assert_eq!(other.expect_err("another key").code(), ErrorCode::Denied);
    let empty = tempfile::tempdir().expect("a folder");
    let missing = Membership::open(empty.path(), &key()).expect_err("nobody here");
    assert_eq!(missing.code(), ErrorCode::Missing);
}

#[test]
fn the_application_can_be_carried_by_hand() {
    let folder = tempfile::tempdir().expect("a folder");
    let (membership, fingerprint) = create(folder.path()).expect("an empty folder");
    let bytes = std::fs::read(folder.path().join("application.bin")).expect("written");
    let signed = Signed::from_bytes(&bytes).expect("a signed message");
    assert_eq!(Application::fingerprint(&signed), fingerprint);
    let application = Application::open(&signed).expect("signed by its own key");
    assert_eq!(application.tls_key_digest, membership.tls.key_digest());
    assert_eq!(
        (application.name.as_str(), application.role),
        ("St. Mary's", Role::Site)
    );
}

#[cfg(unix)]
#[test]
fn nobody_but_the_owner_reads_the_folder() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("member");
    create(&path).expect("a new folder");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in std::fs::read_dir(&path).expect("a folder") {
        let file = entry.expect("an entry").path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn the_roster_grows_epoch_by_epoch_and_survives_a_reopening() {
    let governance = signer();
    let root = governance.public_key().fingerprint();
    let all = history(&governance, 4, "site");
    let (roster, new) = history::extend(&[], all[..2].to_vec(), &root).expect("from the start");
    assert_eq!((roster.epoch(), new.len()), (1, 2));
    let (roster, new) = history::extend(&all[..2], all[1..].to_vec(), &root).expect("further");
    assert_eq!((roster.epoch(), new.len()), (3, 2));
    let (roster, new) = history::extend(&all, vec![], &root).expect("nothing new");
    assert_eq!((roster.epoch(), new.len()), (3, 0));
    assert_eq!(history::digest(&all[3]), roster.digest());

    let folder = tempfile::tempdir().expect("a folder");
    let folder = Folder::create(
        folder.path(),
        &key(),
        &Profile::new(
            &"A".parse().expect("a name"),
            Role::Site,
            &coordinator(),
            root,
        ),
    )
    .expect("an empty folder");
    folder.append_roster(0, &all[..2]).expect("room");
    folder.append_roster(2, &all[2..]).expect("room");
    assert_eq!(folder.roster().expect("intact"), all);
}

#[test]
fn another_history_is_an_alarm_and_a_gap_is_refused() {
    let governance = signer();
    let root = governance.public_key().fingerprint();
    let (ours, theirs) = (
        history(&governance, 3, "ours"),
        history(&governance, 4, "theirs"),
    );
    for offered in [
        theirs[2..].to_vec(),
        theirs[3..].to_vec(),
        theirs[1..].to_vec(),
    ] {
        let error = history::extend(&ours, offered, &root).expect_err("two histories");
        assert!(matches!(error, MembershipError::Fork { .. }), "{error}");
        assert!(error.to_string().contains("ALARM"));
    }
    let longer = history(&governance, 6, "long");
    let gap = history::extend(&longer[..3], longer[4..].to_vec(), &root).expect_err("a gap");
    assert!(
        matches!(
            gap,
            MembershipError::Roster(RosterError::Discontinuous { .. })
        ),
        "{gap}"
    );
    let liar = signer();
    let forged = history::extend(&[], history(&liar, 2, "forged"), &root).expect_err("a liar");
    assert!(matches!(
        forged,
        MembershipError::Roster(RosterError::OtherTrustRoot { .. })
    ));
    assert!(history::extend(&[], vec![], &root).is_err());
}

#[test]
fn a_certificate_is_old_in_the_last_third_of_its_life() {
    let key = rcgen::KeyPair::generate().expect("randomness");
    let mut params = rcgen::CertificateParams::new([]).expect("no names");
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 31);
    let (start, day) = (params.not_before.unix_timestamp() as u64, 86_400);
    let chain = [params
        .self_signed(&key)
        .expect("a certificate")
        .der()
        .clone()];
    let at = |days: u64| is_old(&chain, start + days * day).expect("readable");
    assert!(!at(0) && !at(19));
    assert!(at(21) && at(30) && at(300));
    assert!(is_old(&[], 0).is_err());
}
