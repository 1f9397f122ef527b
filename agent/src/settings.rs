//! How an agent runs: `agent.toml` in its folder. Every field has a default.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_models::network::Wish;
use consilium_proto::OutOfRange;
use serde::Deserialize;

/// Why settings or a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Unreadable {
        /// Which one.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or holds a field that there is not, or a value out of range.
    #[error("{file}: {reason}")]
    Malformed {
        /// Which one.
        file: String,
        /// What is wrong and where.
        reason: String,
    },
}

/// How an agent runs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long the coordinator may hold a question for work: 0 s to 60 s. Default: 30 s.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// How often the agent looks for new studies to decide on: 1 s to 1 d. Default: 30 s.
    #[serde(with = "humantime_serde")]
    pub look_for_studies: Duration,
    /// First wait after a lost connection, then doubled with jitter: 10 ms to 1 h. Default: 1 s.
    #[serde(with = "humantime_serde")]
    pub retry_first: Duration,
    /// Longest wait between two tries: `retry_first` to 1 d. Default: 60 s.
    #[serde(with = "humantime_serde")]
    pub retry_longest: Duration,
    /// Memory for decoded images while a round trains, in MiB: 0 to 1 048 576. Images beyond it
    /// are decoded each time they are drawn. Default: 1024.
    pub cache_mebibytes: u64,
    /// Whether parts of networks' forward passes are computed again instead of being kept: less memory, more
    /// time, and updates of the same bits. Default: false.
    pub recompute: bool,
    /// Whether the log says after each round where the time went. It depends on the records: like all of the
    /// log, it is for the hospital alone. Default: false.
    pub profile: bool,
    /// Where networks are trained: `auto`, `cpu`, `gpu` (all graphics cards), `gpu:0` or `gpu:0,gpu:1`.
    /// Default: `auto`, a card that passes its test, otherwise the processor.
    pub device: Wish,
    /// Folder of a public text encoder in safetensors, for plans that ask for one. Default: none.
    pub text_encoder: Option<PathBuf>,
    /// Lists of what identifies patients here, for taking it out of notes. Default: none beyond what comes
    /// with the program.
    pub identifiers: IdentifierLists,
    /// What `agent serve` allows. Default: each field's.
    pub serving: Serving,
}

/// How much `agent serve` takes on, and how long it keeps things.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serving {
    /// Largest file of a picture, in MiB: 1 to 1024. Default: 32.
    pub picture_mebibytes: u64,
    /// Most pixels of a picture, in Mi: 1 to 64. Default: 16.
    pub picture_mebipixels: u64,
    /// Largest note, in KiB: 1 to 16 384. Default: 1024.
    pub note_kibibytes: u64,
    /// Connections at a time: 1 to 10 000. Default: 256.
    pub connections: usize,
    /// Questions that wait for a model: 1 to 10 000; more are told to come back. Default: 64.
    pub queue: usize,
    /// Questions of one name at a time: 1 to 10 000. Default: 8.
    pub questions_of_one: usize,
    /// Time for a request to arrive: 100 ms to 10 min. Default: 30 s.
    #[serde(with = "humantime_serde")]
    pub arrive: Duration,
    /// Time for a model to answer: 100 ms to 10 min. Default: 60 s.
    #[serde(with = "humantime_serde")]
    pub answer: Duration,
    /// How long pictures, notes and reasons stay in memory, so that they can be looked at: 1 s to 1 d.
    /// They are never on a disk. Default: 15 min.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// Memory for them, in MiB: 1 to 65 536; the oldest go first. Default: 256.
    pub keep_mebibytes: u64,
    /// How long records of predictions are kept: 180 d to 100 years. Default: 6 years.
    #[serde(with = "humantime_serde")]
    pub keep_records: Duration,
    /// How much a new model's score may lie below that of the one in service: 0 to 1. Default: 0.02.
    pub margin: Margin,
}

/// How much lower a score may be: 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Margin(f64);

/// No NaN is a margin.
impl Eq for Margin {}

impl Margin {
    /// As a number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Margin {
    type Error = OutOfRange;
    fn try_from(value: f64) -> Result<Self, OutOfRange> {
        match (0.0..=1.0).contains(&value) {
            true => Ok(Self(value)),
            false => Err(OutOfRange::new("margin", "0 to 1", value)),
        }
    }
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            picture_mebibytes: 32,
            picture_mebipixels: 16,
            note_kibibytes: 1024,
            connections: 256,
            queue: 64,
            questions_of_one: 8,
            arrive: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            keep: Duration::from_secs(15 * 60),
            keep_mebibytes: 256,
            keep_records: 6 * YEAR,
            margin: Margin(0.02),
        }
    }
}

/// 365.25 days, as in durations that are written out.
const YEAR: Duration = Duration::from_secs(31_557_600);

impl Serving {
    fn check(&self) -> Result<(), String> {
        let counts = [
            ("picture_mebibytes", self.picture_mebibytes, 1024),
            ("picture_mebipixels", self.picture_mebipixels, 64),
            ("note_kibibytes", self.note_kibibytes, 16_384),
            ("connections", self.connections as u64, 10_000),
            ("queue", self.queue as u64, 10_000),
            ("questions_of_one", self.questions_of_one as u64, 10_000),
            ("keep_mebibytes", self.keep_mebibytes, 65_536),
        ];
        for (field, value, most) in counts {
            if !(1..=most).contains(&value) {
                return Err(format!(
                    "`serving.{field}` must be 1 to {most}, found {value}"
                ));
            }
        }
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(600));
        within("serving.arrive", self.arrive, least, most)?;
        within("serving.answer", self.answer, least, most)?;
        within(
            "serving.keep",
            self.keep,
            Duration::from_secs(1),
            Duration::from_secs(86_400),
        )?;
        let half = Duration::from_secs(180 * 86_400);
        within("serving.keep_records", self.keep_records, half, 100 * YEAR)
    }
}

fn within(field: &str, value: Duration, least: Duration, most: Duration) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!(
        "`{field}` must be {least:?} to {most:?}, found {value:?}"
    ))
}

/// Files of what identifies patients at a site, one entry a line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentifierLists {
    /// Names of patients, relatives and staff.
    pub names: Option<PathBuf>,
    /// Towns, streets, wards, institutions.
    pub places: Option<PathBuf>,
    /// Numbers and codes.
    pub numbers: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(30),
            look_for_studies: Duration::from_secs(30),
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(60),
            cache_mebibytes: 1024,
            recompute: false,
            profile: false,
            device: Wish::Auto,
            text_encoder: None,
            identifiers: IdentifierLists::default(),
            serving: Serving::default(),
        }
    }
}

impl Settings {
    /// Reads the file; without one, the defaults hold.
    ///
    /// # Errors
    /// An unreadable file, an unknown field, a value out of range.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        let settings: Self = load(file)?.unwrap_or_default();
        settings
            .check()
            .map_err(|reason| SettingsError::Malformed {
                file: file.display().to_string(),
                reason,
            })?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), String> {
        let day = Duration::from_secs(86_400);
        within("poll", self.poll, Duration::ZERO, Duration::from_secs(60))?;
        within(
            "look_for_studies",
            self.look_for_studies,
            Duration::from_secs(1),
            day,
        )?;
        let hour = Duration::from_secs(3600);
        within(
            "retry_first",
            self.retry_first,
            Duration::from_millis(10),
            hour,
        )?;
        within("retry_longest", self.retry_longest, self.retry_first, day)?;
        if self.cache_mebibytes > 1 << 20 {
            return Err(format!(
                "`cache_mebibytes` must be 0 to 1048576, found {}",
                self.cache_mebibytes
            ));
        }
        self.serving.check()
    }
}

/// Reads a TOML file, if there is one.
pub(crate) fn load<T: serde::de::DeserializeOwned>(
    file: &Path,
) -> Result<Option<T>, SettingsError> {
    let name = || file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => toml::from_str(&text)
            .map(Some)
            .map_err(|error| SettingsError::Malformed {
                file: name(),
                reason: error.to_string(),
            }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SettingsError::Unreadable {
            file: name(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("agent.toml");
        std::fs::write(&file, text).expect("room");
        Settings::load(&file)
    }

    #[test]
    fn defaults_hold_where_nothing_is_said() {
        assert_eq!(settings("").expect("nothing said"), Settings::default());
        let settings = settings("poll = \"5s\"\ndevice = \"gpu:0,gpu:1\"").expect("sound");
        assert_eq!(
            settings,
            Settings {
                poll: Duration::from_secs(5),
                device: Wish::Cards(vec![0, 1]),
                ..Settings::default()
            }
        );
        let missing = Settings::load(Path::new("no such file")).expect("defaults");
        assert_eq!(missing, Settings::default());
    }

    #[test]
    fn unknown_fields_and_values_out_of_range_are_named() {
        for (text, field) in [
            ("pol = \"5s\"", "pol"),
            ("poll = \"61s\"", "poll"),
            ("look_for_studies = \"0s\"", "look_for_studies"),
            ("retry_first = \"0s\"", "retry_first"),
            ("retry_longest = \"1ms\"", "retry_longest"),
            ("cache_mebibytes = 9999999", "cache_mebibytes"),
            ("device = \"cuda:0\"", "gpu:0"),
            ("[serving]\nqueue = 0", "queue"),
            ("[serving]\nanswer = \"1ms\"", "answer"),
            ("[serving]\nkeep_records = \"30d\"", "keep_records"),
            ("[serving]\nmargin = 1.5", "margin"),
        ] {
            let message = settings(text).expect_err(text).to_string();
            assert!(
                message.contains(field) && message.contains("agent.toml"),
                "{message}"
            );
        }
    }
}
