//! `consilium device …`: what this machine can train on.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};
use consilium_models::network::{Road, Wish};
use consilium_proto::ErrorCode;

use crate::{
    device::{Children, code_of, survey, test_here},
    failure::{Classify as _, refuse},
    output,
};

/// Devices that can train.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Test every graphics card, and say which of them can train
    List,
    /// Test one road to a card in this process, which a bad driver may end
    Check {
        /// The card, as `gpu:0`
        #[arg(value_name = "CARD")]
        card: Wish,
        /// How shaders come to the card
        #[arg(long, value_enum)]
        road: RoadName,
    },
}

/// How shaders come to a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoadName {
    /// Vulkan's own form: the faster one with a good driver
    Spirv,
    /// For any card
    Wgsl,
}

impl From<RoadName> for Road {
    fn from(name: RoadName) -> Self {
        match name {
            RoadName::Spirv => Self::Spirv,
            RoadName::Wgsl => Self::Wgsl,
        }
    }
}

impl Command {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::List => list().await,
            Self::Check { card, road } => {
                let Wish::Cards(cards) = &card else {
                    return refuse(ErrorCode::Invalid, format!("`{card}` is not one card"));
                };
                let [card] = cards[..] else {
                    return refuse(
                        ErrorCode::Invalid,
                        format!("`{card}` is more than one card"),
                    );
                };
                // A driver may block for long.
                let tested = tokio::task::spawn_blocking(move || test_here(card, road.into()));
                match tested.await.context("testing")? {
                    Ok(passed) => output::json(&passed),
                    Err(error) => {
                        let code = code_of(&error);
                        Err(error).classify(code)
                    }
                }
            }
        }
    }
}

async fn list() -> Result<()> {
    if Road::BUILT.is_empty() {
        return output::line(
            "cpu: this build has no graphics cards (build with `cargo build --release --features gpu`)",
        );
    }
    let cards = survey(&Children::new().context("finding this program")?).await;
    if cards.is_empty() {
        return output::line("cpu: no graphics card, or no driver for one, was found");
    }
    for card in cards {
        let mut text = format!("gpu:{}", card.number);
        match card.chosen() {
            Some((_, tested)) if tested.is_software => {
                write!(text, "  {} (software)", tested.name)?
            }
            Some((_, tested)) => write!(text, "  {}", tested.name)?,
            None => write!(text, "  cannot be trusted, the cpu will train")?,
        }
        for (road, verdict) in &card.verdicts {
            write!(text, "\n  {road}: {verdict}")?;
        }
        output::line(text)?;
    }
    Ok(())
}
