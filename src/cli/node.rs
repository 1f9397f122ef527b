//! What commands that run on their own have in common: how they are stopped.

use std::{io, thread};

use anyhow::Result;
use clap::Args;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::signals::stop_on_signals;

/// Whose child a node is.
#[derive(Debug, Args)]
pub(super) struct Parent {
    /// Stop when standard input closes, so that the node ends with the program that started it
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

impl Parent {
    /// Cancelled at Ctrl-C, SIGTERM, or when the parent has gone.
    pub(super) fn stop(&self) -> Result<CancellationToken> {
        let stop = stop_on_signals(&TaskTracker::new())?;
        if self.stop_with_stdin {
            let stop = stop.clone();
            // A thread of its own, which ends with the process: a read of standard input cannot be
            // cancelled, and would hold the runtime back when the node stops for another reason.
            thread::Builder::new()
                .name("parent".into())
                .spawn(move || {
                    // Whatever arrives is ignored; an end or an error means that nobody is there.
                    let _ = io::copy(&mut io::stdin(), &mut io::sink());
                    stop.cancel();
                })?;
        }
        Ok(stop)
    }
}
