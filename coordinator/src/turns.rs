//! One at a time for each key, and the newest goes on: a site that reconnects takes over from its
//! own dead connection instead of waiting for it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

struct Place {
    /// Tells the present holder to give way.
    superseded: CancellationToken,
    lock: Arc<tokio::sync::Mutex<()>>,
}

type Places<K> = Arc<Mutex<HashMap<K, Place>>>;

/// Who may work on what.
#[derive(Clone)]
pub struct Turns<K: Eq + Hash>(Places<K>);

/// The right to work on one thing, until dropped or superseded.
pub struct Turn<K: Eq + Hash> {
    places: Places<K>,
    key: K,
    superseded: CancellationToken,
    _lock: OwnedMutexGuard<()>,
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// Nobody works on anything.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Tells the present holder to give way and waits until it has.
    pub async fn take(&self, key: K) -> Turn<K> {
        let superseded = CancellationToken::new();
        let lock = {
            let mut places = locked(&self.0);
            let place = Place {
                superseded: superseded.clone(),
                lock: Arc::default(),
            };
            match places.get_mut(&key) {
                Some(held) => {
                    std::mem::replace(&mut held.superseded, place.superseded).cancel();
                    held.lock.clone()
                }
                None => places.entry(key.clone()).or_insert(place).lock.clone(),
            }
        };
        let _lock = lock.lock_owned().await;
        Turn {
            places: self.0.clone(),
            key,
            superseded,
            _lock,
        }
    }
}

impl<K: Eq + Hash> Turn<K> {
    /// Resolves when somebody newer wants to go on.
    pub async fn superseded(&self) {
        self.superseded.cancelled().await;
    }
}

impl<K: Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        // Whoever came later has put its own token there and goes on using the place.
        if !self.superseded.is_cancelled() {
            locked(&self.places).remove(&self.key);
        }
    }
}

/// Whoever died while holding it left whole entries behind.
fn locked<K>(places: &Places<K>) -> MutexGuard<'_, HashMap<K, Place>> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_takes_over_and_the_last_cleans_up() {
        let turns = Turns::new();
        let first = turns.take(1).await;
        let (newer, ()) = tokio::join!(turns.take(1), async {
            first.superseded().await;
            drop(first);
        });
        let other = turns.take(2).await;
        assert_eq!(locked(&turns.0).len(), 2);
        drop(newer);
        drop(other);
        assert!(locked(&turns.0).is_empty());
    }
}
