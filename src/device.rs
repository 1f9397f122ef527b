//! Which devices train: every road to a graphics card is tested in a process of its own first.
//!
//! A bad driver may end the process that uses it, hang, or compute zeros without a word. So nothing
//! here asks a driver for anything: a child, this same program, does, and passes only by saying so in its
//! last line and by its exit code. Of the roads to a card that pass, the fastest is taken.

use std::{
    future::Future, io, os::unix::process::ExitStatusExt as _, path::PathBuf, process::Stdio,
    time::Duration,
};

use consilium_models::network::{Device, DeviceError, NetworkError, Road, Tested, Wish};
use consilium_proto::ErrorCode;
use serde::{Deserialize, Serialize};
use tokio::{process::Command, time::timeout};
use tracing::{info, warn};

/// Most cards that are tested.
pub const MOST_CARDS: usize = 16;

/// How long a test may take: kernels are compiled for each.
const PATIENCE: Duration = Duration::from_secs(300);

/// What came of testing a road to a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It computes what the CPU computes.
    Passed(Tested),
    /// There is no card of this number.
    Absent,
    /// It fails, or computes something else; the reason.
    Failed(String),
    /// It ended the process; how.
    Crashed(String),
    /// It was not done in time.
    TimedOut,
}

/// Tests roads to cards: in child processes, or by a script.
pub trait Trials: Sync {
    /// The roads of this build, the fastest first; none in a build without graphics cards.
    fn roads(&self) -> &[Road];

    /// Tests one road. Safe to repeat.
    fn test(&self, card: usize, road: Road) -> impl Future<Output = Verdict> + Send;
}

/// The devices that were asked for cannot be had: a mistake of who asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchCard {
    /// Built without graphics cards.
    #[error(
        "`{0}` needs a build for graphics cards: build with `cargo build --release --features gpu`, or use `cpu`"
    )]
    NotBuilt(Wish),
    /// No card of this number.
    #[error("there is no gpu:{0}: `consilium device list` shows the graphics cards")]
    Absent(usize),
}

impl NoSuchCard {
    /// What the caller should do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotBuilt(_) => ErrorCode::Precondition,
            Self::Absent(_) => ErrorCode::Missing,
        }
    }
}

/// A card, and what came of each road to it that was tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Counted from 0.
    pub number: usize,
    /// In the order in which they were tested.
    pub verdicts: Vec<(Road, Verdict)>,
}

impl Card {
    /// The fastest road that passed.
    pub fn chosen(&self) -> Option<(Device, &Tested)> {
        self.verdicts
            .iter()
            .find_map(|(road, verdict)| match verdict {
                Verdict::Passed(tested) => Some((Device::Card(self.number, *road), tested)),
                _ => None,
            })
    }

    /// Tests the roads to a card until one passes, or all of them; none where there is no such card.
    async fn test(number: usize, trials: &impl Trials, until_passed: bool) -> Option<Self> {
        let mut card = Self {
            number,
            verdicts: Vec::new(),
        };
        for &road in trials.roads() {
            let verdict = trials.test(number, road).await;
            if verdict == Verdict::Absent {
                continue;
            }
            let is_enough = until_passed && matches!(verdict, Verdict::Passed(_));
            card.verdicts.push((road, verdict));
            if is_enough {
                break;
            }
        }
        (!card.verdicts.is_empty()).then_some(card)
    }

    /// Says what failed, for the log of whoever will train.
    fn report(&self) {
        let number = self.number;
        for (road, verdict) in &self.verdicts {
            let device = Device::Card(number, *road);
            match verdict {
                Verdict::Passed(Tested { name, .. }) => {
                    info!(%device, name, "the device passed its test");
                }
                failed => warn!(%device, verdict = %failed, "the device failed its test"),
            }
        }
        if self.chosen().is_none() {
            warn!("gpu:{number} cannot be trusted: its driver is at fault");
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed(_) => f.write_str("passed"),
            Self::Absent => f.write_str("not there"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Crashed(how) => write!(f, "ended the process that tested it: {how}"),
            Self::TimedOut => f.write_str("did not finish its test in time"),
        }
    }
}

/// The devices to train on; none for the processor alone.
///
/// A card whose driver fails the test is left out, with a warning; if none is left, the processor
/// trains.
///
/// # Errors
/// A card that is asked for by number and is not there; a build without graphics cards.
pub async fn choose(wish: &Wish, trials: &impl Trials) -> Result<Vec<Device>, NoSuchCard> {
    let wants_cards = matches!(wish, Wish::AllCards | Wish::Cards(_));
    if trials.roads().is_empty() {
        return match wants_cards {
            true => Err(NoSuchCard::NotBuilt(wish.clone())),
            false => Ok(Vec::new()),
        };
    }
    let numbers = match wish {
        Wish::Cpu => Vec::new(),
        Wish::Cards(numbers) => numbers.clone(),
        Wish::Auto | Wish::AllCards => (0..MOST_CARDS).collect(),
    };
    let mut devices = Vec::new();
    for number in numbers {
        let Some(card) = Card::test(number, trials, true).await else {
            match wish {
                Wish::Cards(_) => return Err(NoSuchCard::Absent(number)),
                _ => break,
            }
        };
        card.report();
        let Some((device, tested)) = card.chosen() else {
            continue;
        };
        // The processor in disguise is slower than our own kernels, so only who asks by number gets it.
        if tested.is_software && !matches!(wish, Wish::Cards(_)) {
            info!(%device, "left out: it is no card, but software");
            continue;
        }
        devices.push(device);
        if *wish == Wish::Auto {
            break;
        }
    }
    if devices.is_empty() && *wish != Wish::Cpu {
        match wants_cards {
            true => warn!("no graphics card can be used, training on the cpu"),
            false => info!("no graphics card can be used, training on the cpu"),
        }
    }
    Ok(devices)
}

/// All cards of this machine, with all roads to them.
pub async fn survey(trials: &impl Trials) -> Vec<Card> {
    let mut cards = Vec::new();
    for number in 0..MOST_CARDS {
        let Some(card) = Card::test(number, trials, false).await else {
            break;
        };
        cards.push(card);
    }
    cards
}

/// What a child that passed prints as its last line. Whatever else a driver prints is no such thing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Passed {
    passed: String,
    name: String,
    is_software: bool,
}

/// Tests a road in this process, which a bad driver may end, and gives the line that says that it passed.
///
/// # Errors
/// As [`Device::test`].
pub fn test_here(card: usize, road: Road) -> Result<impl Serialize, NetworkError> {
    let device = Device::Card(card, road);
    let Tested { name, is_software } = device.test()?;
    Ok(Passed {
        passed: device.to_string(),
        name,
        is_software,
    })
}

/// Class of a failed test.
pub(crate) fn code_of(error: &NetworkError) -> ErrorCode {
    match error {
        NetworkError::Device(DeviceError::Absent { .. }) => ErrorCode::Missing,
        NetworkError::Device(DeviceError::NotBuilt(_)) => ErrorCode::Precondition,
        _ => ErrorCode::Internal,
    }
}

/// Tests in child processes of this program.
pub struct Children {
    program: PathBuf,
    patience: Duration,
}

impl Children {
    /// Of the program that runs.
    ///
    /// # Errors
    /// It cannot be found.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            patience: PATIENCE,
        })
    }
}

impl Trials for Children {
    fn roads(&self) -> &[Road] {
        Road::BUILT
    }

    async fn test(&self, card: usize, road: Road) -> Verdict {
        let child = Command::new(&self.program)
            .args(["device", "check", &format!("gpu:{card}")])
            .args(["--road", road.name()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The waiting side may go away, by Ctrl-C or at the end of its patience.
            .kill_on_drop(true)
            .spawn();
        let ended = match child {
            Ok(child) => timeout(self.patience, child.wait_with_output()).await,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        match ended {
            Ok(Ok(output)) => verdict(Device::Card(card, road), &output),
            Ok(Err(error)) => Verdict::Failed(error.to_string()),
            Err(_) => Verdict::TimedOut,
        }
    }
}

/// What a child that has ended says about a device.
fn verdict(device: Device, output: &std::process::Output) -> Verdict {
    if let Some(signal) = output.status.signal() {
        return Verdict::Crashed(format!("signal {signal}"));
    }
    let last_line = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().last().unwrap_or_default().to_owned()
    };
    let reason = || {
        let last = last_line(&output.stderr);
        let reason = last.trim_start_matches("error: ").to_owned();
        match reason.is_empty() {
            true => output.status.to_string(),
            false => reason,
        }
    };
    match output.status.code() {
        Some(0) => match serde_json::from_str::<Passed>(&last_line(&output.stdout)) {
            Ok(passed) if passed.passed == device.to_string() => Verdict::Passed(Tested {
                name: passed.name,
                is_software: passed.is_software,
            }),
            _ => Verdict::Failed("it ended without a word".to_owned()),
        },
        Some(code) if code == i32::from(ErrorCode::Missing.exit_code()) => Verdict::Absent,
        Some(101) => Verdict::Crashed(reason()),
        _ => Verdict::Failed(reason()),
    }
}

#[cfg(test)]
mod tests;
