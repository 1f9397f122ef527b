//! `consilium agent serve`: answers what programs and people of this hospital ask of its models.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_agent::{
    data::Part,
    serving::{
        self, Parts, Server,
        models::{Examiner, Score},
        quiet_panics,
    },
};
use consilium_models::released::Released;
use consilium_proto::ErrorCode;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::{Folder, knowledge, node};
use crate::{
    failure::{Classify as _, message},
    output,
    scoring::{Means, Scorer},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Serve {
    #[command(flatten)]
    folder: Folder,
    /// Where to listen; without TLS only on this machine
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Certificate that the server shows, with those that lead to its authority; PEM
    #[arg(long, value_name = "FILE.pem", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key; PEM
    #[arg(long, value_name = "FILE.pem", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Authority whose clients need no token; PEM
    #[arg(long, value_name = "FILE.pem", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    #[command(flatten)]
    check: Check,
    /// Knowledge file or folder, behind the starter set; may be given more than once
    #[arg(long = "knowledge", value_name = "PATH")]
    knowledge: Vec<PathBuf>,
    #[command(flatten)]
    parent: node::Parent,
}

/// Records that models are checked on before they go into service.
#[derive(Debug, Clone, Args)]
pub(super) struct Check {
    /// Records of this hospital that no model was trained on: a new model is scored on them before it goes
    /// into service. What comes of it stays here
    #[arg(long, value_name = "PATH")]
    check: Option<PathBuf>,
    /// Part of them
    #[arg(long, default_value = "test", value_name = "PART", requires = "check")]
    check_part: Part,
}

impl Check {
    /// Who scores models; none without records.
    pub(super) fn examiner(&self, encoder: Option<&Path>) -> Option<Arc<dyn Examiner>> {
        let local = Local {
            data: self.check.clone()?,
            part: self.check_part,
            encoder: encoder.map(Path::to_owned),
        };
        Some(Arc::new(local))
    }
}

/// Scores models on records of this hospital.
struct Local {
    data: PathBuf,
    part: Part,
    encoder: Option<PathBuf>,
}

impl Examiner for Local {
    fn score(&self, released: &Released) -> Result<Score, String> {
        let score = || -> Result<Score> {
            let means = Means {
                target: None,
                encoder: self.encoder.as_deref(),
            };
            let scorer = Scorer::open(released.plan(), &self.data, self.part, means)?;
            let figures = scorer.score(released.weights())?;
            // The first that the task has; more is better of each.
            let known = [
                ("auc", figures.auc),
                ("f1", figures.f1),
                ("accuracy", figures.accuracy),
            ];
            let found = known
                .into_iter()
                .find_map(|(name, value)| Some((name, value?)));
            let (figure, value) = found.context("the records give no score")?;
            Ok(Score {
                figure: figure.to_owned(),
                value,
                records: scorer.records(),
            })
        };
        score().map_err(|error| message(&error))
    }
}

impl Serve {
    pub(in crate::cli) async fn run(self) -> Result<()> {
        let store = self.folder.store().await?;
        let stop = self.parent.stop()?;
        let settings = self.folder.settings()?;
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (read(certificate)?, Zeroizing::new(read(key)?));
                let authority = self.client_ca.as_deref().map(read).transpose()?;
                Some(
                    serving::tls(&certificate, &key, authority.as_deref())
                        .classify(ErrorCode::Invalid)?,
                )
            }
            _ => None,
        };
        quiet_panics();
        let parts = Parts {
            examiner: self.check.examiner(settings.text_encoder.as_deref()),
            knowledge: knowledge::read(&self.knowledge)?,
            encoder: settings.text_encoder,
            settings: settings.serving,
            store,
        };
        let server = Server::open(parts).await?;
        let context = || format!("listening on {}", self.listen);
        let listener = TcpListener::bind(self.listen).await.with_context(context)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        output::note(format_args!(
            "serving on {scheme}://{}",
            listener.local_addr().with_context(context)?
        ));
        output::note("for research use only: not a medical device");
        Ok(server.run(listener, tls, stop).await?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}
