//! What agents warn of.

use std::{
    io,
    sync::{Mutex, Once},
};

use super::locked;
use crate::federation;

/// What all agents of this program have warned of since somebody listens.
static WARNINGS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Warnings;

impl io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        locked(&WARNINGS).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Distrust ends a connection and is told to nobody but the site's own log.
pub(super) fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(|| Warnings)
            .init();
    });
}

/// Waits until somebody has warned in these words.
pub(super) async fn until(what: &str) {
    federation::until(what, async || {
        let warnings = locked(&WARNINGS);
        let text = String::from_utf8_lossy(&warnings);
        text.contains(what).then_some(())
    })
    .await;
}
