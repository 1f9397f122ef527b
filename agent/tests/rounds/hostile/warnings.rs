//! What agents warn of: distrust ends a connection and is told to nobody but the site's own log.

use crate::federation::{self, logs};

/// Waits until somebody has warned in these words.
pub(super) async fn until(what: &str) {
    federation::until(what, async || logs::hold(what).then_some(())).await;
}
