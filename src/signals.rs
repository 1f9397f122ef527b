//! Ctrl-C and SIGTERM: the first asks for an orderly end, a second one ends at once.

use std::process;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{failure::INTERRUPTED, output};

/// Cancels the token at the first signal. The task lives as long as the program.
///
/// # Errors
/// The system takes no signal handler.
pub fn stop_on_signals(tasks: &TaskTracker) -> Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        output::note("stopping; once more to stop at once");
        token.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        process::exit(i32::from(INTERRUPTED));
    });
    Ok(stop)
}
