//! Who asks: the holder of a token, of a client certificate, or of a session that a token opened.
//!
//! A token is 32 random bytes; the store holds its digest alone, and a lookup compares all digests in constant
//! time. Sessions are for the pages: in memory, bounded, and gone with their token.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use consilium_proto::Digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::store::{Duty, Store, StoreError, Token};

/// What every token begins with, so that scanners for secrets find it.
const MARK: &str = "consilium_";
/// Longest name.
const NAME_LIMIT: usize = 64;
/// Sessions at a time; the one that was idle longest goes first.
const SESSIONS: usize = 1000;
/// A session ends when nobody used it for so long.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// And after so long in any case.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// The name of the token, or `certificate:` and the common name.
    pub(super) name: String,
    pub(super) duty: Duty,
}

/// The common name of the certificate that a connection showed, if it showed one.
#[derive(Debug, Clone, Default)]
pub(super) struct Certified(pub(super) Option<String>);

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a name.
    #[error("a name has 1 to {NAME_LIMIT} letters, digits, `.`, `_`, `@` or `-`")]
    Name,
    /// The name has a token.
    #[error("{0} has a token: `agent token revoke {0}` takes it back")]
    Exists(String),
    /// The system has no randomness.
    #[error("the system has no randomness to give")]
    NoRandomness,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a token for a name and remembers its digest. The token is nowhere but in what this returns.
///
/// # Errors
/// A name that is none or has a token, no randomness, a store that fails.
pub async fn new_token(
    store: &Store,
    name: &str,
    duty: Duty,
    now: SystemTime,
) -> Result<Zeroizing<String>, TokenError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    if name.is_empty() || name.len() > NAME_LIMIT || !name.chars().all(is_plain) {
        return Err(TokenError::Name);
    }
    let secret = random().ok_or(TokenError::NoRandomness)?;
    let token = Zeroizing::new(format!("{MARK}{}", *secret));
    match store.add_token(name, duty, &digest(&token), now).await? {
        true => Ok(token),
        false => Err(TokenError::Exists(name.to_owned())),
    }
}

/// Whose token this is.
///
/// # Errors
/// The store failed.
pub(super) async fn holder(store: &Store, presented: &str) -> Result<Option<Token>, StoreError> {
    let presented = digest(presented);
    let mut found = None;
    // All are looked at, so that the time says nothing of where it stands.
    for token in store.tokens().await? {
        if bool::from(token.digest.as_bytes().ct_eq(presented.as_bytes())) {
            found = Some(token);
        }
    }
    Ok(found)
}

fn digest(token: &str) -> Digest {
    Digest::of("consilium/token/1", &[token.as_bytes()])
}

/// 32 random bytes as hexadecimal digits; none where the system has no randomness.
pub(super) fn random() -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    SystemRandom::new().fill(bytes.as_mut()).ok()?;
    Some(Zeroizing::new(Digest::from(*bytes).to_string()))
}

/// A visit to the pages.
struct Session {
    token: Token,
    form_key: String,
    began: Instant,
    used: Instant,
}

/// What a session's holder may do, and what its forms must carry.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) caller: Caller,
    /// Forms carry it, so that no other site can send them.
    pub(super) form_key: String,
}

/// Sessions by the digest of what the cookie holds.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<Digest, Session>>);

impl Sessions {
    /// Opens a session for a token's holder and gives what the cookie holds; none without randomness.
    pub(super) fn open(&self, token: Token, now: Instant) -> Option<Zeroizing<String>> {
        let (secret, form_key) = (random()?, random()?);
        let mut sessions = self.locked();
        sessions.retain(|_, session| session.holds(now));
        if sessions.len() >= SESSIONS {
            let idle = sessions.iter().min_by_key(|(_, session)| session.used);
            if let Some(key) = idle.map(|(key, _)| *key) {
                sessions.remove(&key);
            }
        }
        let session = Session {
            token,
            form_key: form_key.to_string(),
            began: now,
            used: now,
        };
        sessions.insert(digest(&secret), session);
        Some(secret)
    }

    /// Whose session this is; none where it has ended, or its token was taken back.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn visit(
        &self,
        store: &Store,
        secret: &str,
        now: Instant,
    ) -> Result<Option<Visit>, StoreError> {
        let key = digest(secret);
        let found = {
            let mut sessions = self.locked();
            let session = sessions.get_mut(&key).filter(|session| session.holds(now));
            session.map(|session| {
                session.used = now;
                (session.token.clone(), session.form_key.clone())
            })
        };
        let Some((token, form_key)) = found else {
            return Ok(None);
        };
        if !store.tokens().await?.contains(&token) {
            self.close(secret);
            return Ok(None);
        }
        let caller = Caller {
            name: token.name,
            duty: token.duty,
        };
        Ok(Some(Visit { caller, form_key }))
    }

    /// Ends a session. Safe to repeat.
    pub(super) fn close(&self, secret: &str) {
        self.locked().remove(&digest(secret));
    }

    /// Whoever died while holding it left whole entries behind.
    fn locked(&self) -> MutexGuard<'_, HashMap<Digest, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn holds(&self, now: Instant) -> bool {
        now.duration_since(self.used) < IDLE && now.duration_since(self.began) < LONGEST
    }
}

impl Visit {
    /// Whether a form is of this visit.
    pub(super) fn sent(&self, form_key: &str) -> bool {
        self.form_key.as_bytes().ct_eq(form_key.as_bytes()).into()
    }
}
