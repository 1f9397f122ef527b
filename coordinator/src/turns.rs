//! One at a time for each key, and the newest goes on: a site that reconnects takes over from its
//! own dead connection instead of waiting for it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

struct Place {
    /// Tells the present holder to give way.
    superseded: CancellationToken,
    /// Also counts who holds or waits: nobody, when the map has the only reference.
    lock: Arc<tokio::sync::Mutex<()>>,
}

/// Who may work on what.
pub struct Turns<K>(Mutex<HashMap<K, Place>>);

/// The right to work on one thing, until dropped or superseded.
pub struct Turn {
    superseded: CancellationToken,
    _lock: OwnedMutexGuard<()>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Turns<K> {
    /// Tells the present holder to give way and waits until it has.
    pub async fn take(&self, key: K) -> Turn {
        let superseded = CancellationToken::new();
        let lock = {
            // Whoever died while holding it left whole entries behind.
            let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            places.retain(|_, place| Arc::strong_count(&place.lock) > 1);
            let place = places.entry(key).or_insert_with(|| Place {
                superseded: superseded.clone(),
                lock: Arc::default(),
            });
            if Arc::strong_count(&place.lock) > 1 {
                place.superseded.cancel();
            }
            place.superseded = superseded.clone();
            place.lock.clone()
        };
        let _lock = lock.lock_owned().await;
        Turn { superseded, _lock }
    }
}

impl Turn {
    /// Resolves when somebody newer wants to go on.
    pub async fn superseded(&self) {
        self.superseded.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_takes_over() {
        let turns = Turns::default();
        let first = turns.take(1).await;
        let (newer, ()) = tokio::join!(turns.take(1), async {
            first.superseded().await;
            drop(first);
        });
        assert!(!newer.superseded.is_cancelled());
    }

    #[tokio::test]
    async fn turns_that_are_over_or_were_given_up_leave_nothing_behind() {
        let turns = Turns::default();
        let first = turns.take(1).await;
        let waiting = tokio::time::timeout(std::time::Duration::ZERO, turns.take(1)).await;
        assert!(waiting.is_err(), "the first still works");
        drop(first);
        let _other = turns.take(2).await;
        assert_eq!(turns.0.lock().expect("not poisoned").len(), 1);
    }
}
