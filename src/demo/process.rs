//! The demo's nodes: this same program, as processes of their own.
//!
//! A node stops when its standard input closes, so none outlives the demo, however that ends. Each
//! is a process group of its own: Ctrl-C reaches the demo alone, which then stops them in order.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a node may take until it serves.
const START: Duration = Duration::from_secs(60);
/// How long a node may take to stop in order.
const STOP: Duration = Duration::from_secs(10);

/// One process of the federation.
pub(super) struct Node {
    name: String,
    log: PathBuf,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Node {
    /// Starts this program with other arguments; what it logs goes to a file.
    ///
    /// # Errors
    /// The program cannot be started, or its log cannot be written.
    pub(super) fn start(name: &str, logs: &Path, arguments: &[&std::ffi::OsStr]) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("writing {}", log.display()))?;
        let program = std::env::current_exe().context("finding this program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(file))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self {
            name: name.to_owned(),
            log,
            child,
            stdin,
            stdout,
        })
    }

    /// The first line that the node prints, which says where it serves.
    ///
    /// # Errors
    /// The node ends or stays silent.
    pub(super) async fn first_line(&mut self) -> Result<String> {
        let stdout = self
            .stdout
            .as_mut()
            .context("the node's output was read before")?;
        let mut line = String::new();
        match timeout(START, stdout.read_line(&mut line)).await {
            Ok(Ok(length)) if length > 0 => Ok(line.trim().to_owned()),
            _ => bail!("{} did not start: {}", self.name, self.last_words()),
        }
    }

    /// Resolves when the node has ended by itself, which it should not.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        let status = self.child.wait().await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        anyhow::anyhow!("{} ended ({status}): {}", self.name, self.last_words())
    }

    /// Asks the node to stop and waits; ends it by force if it does not.
    pub(super) async fn stop(mut self) {
        drop(self.stdin.take());
        if timeout(STOP, self.child.wait()).await.is_err() {
            tracing::warn!(node = %self.name, "node did not stop in order, ending it");
            // It may have ended in between: then there is nothing left to do.
            let _ = self.child.kill().await;
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().last().unwrap_or("it said nothing").to_owned();
        format!("{last} (its log is {})", self.log.display())
    }
}
