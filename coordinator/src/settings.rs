//! The coordinator's settings file.

use std::{
    env, fs,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_privacy::seal::{FileError, write_private};
use consilium_proto::chunk::{CHUNK_BYTES, DEFAULT_CHUNK_BYTES};
use serde::{Deserialize, Serialize};

/// A variable `CONSILIUM_COORDINATOR_LISTEN` overrides the field `listen`, and so on.
const OVERRIDE: &str = "CONSILIUM_COORDINATOR_";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("the settings {} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML, or holds a field that there is not.
    #[error("the settings {} cannot be used: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        reason: String,
    },
    /// A field holds what it must not.
    #[error("setting `{field}` must be {allowed}, found {found}")]
    Unsound {
        /// Which field.
        field: &'static str,
        /// What is allowed.
        allowed: &'static str,
        /// What stands there.
        found: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What an operator may choose. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to listen. Default: `127.0.0.1:7443`, which only this machine reaches.
    pub listen: SocketAddr,
    /// How long a certificate is valid: 1 h to 825 d; renewed when a third is left. Default: 90 d.
    #[serde(with = "humantime_serde")]
    pub certificate_lifetime: Duration,
    /// How vectors of new studies are cut, in bytes: 1024 to 1048576, a multiple of 8. Default:
    /// 1048576.
    pub chunk_bytes: u32,
    /// Updates taken in at the same time: 1 to 1024; the others wait. Default: 16.
    pub upload_concurrency: usize,
    /// Time after which an upload without a chunk is ended: 1 s to 10 min. Default: 30 s.
    #[serde(with = "humantime_serde")]
    pub upload_patience: Duration,
    /// Least time for the rest of the cohort once a round has its quorum: 0 s to 1 d. Default: 2 s.
    #[serde(with = "humantime_serde")]
    pub straggler_grace: Duration,
    /// Open connections: 1 to 100000. Default: 1024.
    pub max_connections: usize,
    /// TLS handshakes under way: 1 to 10000. Default: 64.
    pub max_handshakes: usize,
    /// Time for a TLS handshake: 100 ms to 1 min. Default: 10 s.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// Time for open calls to end at shut-down: 0 s to 10 min. Default: 10 s.
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7443)),
            certificate_lifetime: Duration::from_secs(90 * 86_400),
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            upload_concurrency: 16,
            upload_patience: Duration::from_secs(30),
            straggler_grace: Duration::from_secs(2),
            max_connections: 1024,
            max_handshakes: 64,
            handshake_timeout: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// Reads a settings file, then the environment's overrides.
    ///
    /// # Errors
    /// Unreadable, not TOML, an unknown field, a value out of range.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(path).map_err(|source| {
            let path = path.to_owned();
            SettingsError::Unreadable { path, source }
        })?;
        let overrides = env::vars().filter_map(|(name, value)| {
            let field = name.strip_prefix(OVERRIDE)?.to_ascii_lowercase();
            Some((field, value))
        });
        Self::parse(&text, overrides).map_err(|error| match error {
            ParseError::Malformed(reason) => {
                let path = path.to_owned();
                SettingsError::Malformed { path, reason }
            }
            ParseError::Unsound(error) => error,
        })
    }

    fn parse(
        text: &str,
        overrides: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ParseError> {
        let malformed = |error: toml::de::Error| ParseError::Malformed(error.to_string());
        // Read once as it stands, so that an error names its line.
        toml::from_str::<Self>(text).map_err(malformed)?;
        let mut table: toml::Table = text.parse().map_err(malformed)?;
        for (field, value) in overrides {
            let number = value.parse().map(toml::Value::Integer);
            table.insert(field, number.unwrap_or(toml::Value::String(value)));
        }
        let settings: Self = table.try_into().map_err(malformed)?;
        settings.check().map_err(ParseError::Unsound)?;
        Ok(settings)
    }

    /// Writes the file, each field with its meaning.
    ///
    /// # Errors
    /// A value out of range, or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), SettingsError> {
        self.check()?;
        Ok(write_private(path, self.to_toml().as_bytes())?)
    }

    fn to_toml(&self) -> String {
        let time = |duration: Duration| humantime::format_duration(duration).to_string();
        format!(
            "\
# Settings of a Consilium coordinator. Each may be overridden by an environment variable:
# {OVERRIDE}LISTEN, and so on.

# Where to listen. 127.0.0.1 is reached from this machine only; 0.0.0.0 from everywhere.
listen = \"{}\"
# How long a certificate is valid: 1h to 825days. Renewed by itself when a third is left.
certificate_lifetime = \"{}\"
# How vectors of new studies are cut, in bytes: 1024 to 1048576, a multiple of 8.
chunk_bytes = {}
# Updates taken in at the same time: 1 to 1024. The others wait.
upload_concurrency = {}
# Time after which an upload without a chunk is ended: 1s to 10min.
upload_patience = \"{}\"
# Least time for the rest of the cohort once a round has its quorum: 0s to 1day.
straggler_grace = \"{}\"
# Open connections: 1 to 100000.
max_connections = {}
# TLS handshakes under way: 1 to 10000.
max_handshakes = {}
# Time for a TLS handshake: 100ms to 1min.
handshake_timeout = \"{}\"
# Time for open calls to end at shut-down: 0s to 10min.
shutdown_grace = \"{}\"
",
            self.listen,
            time(self.certificate_lifetime),
            self.chunk_bytes,
            self.upload_concurrency,
            time(self.upload_patience),
            time(self.straggler_grace),
            self.max_connections,
            self.max_handshakes,
            time(self.handshake_timeout),
            time(self.shutdown_grace),
        )
    }

    fn check(&self) -> Result<(), SettingsError> {
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        within(
            "certificate_lifetime",
            self.certificate_lifetime,
            3600 * second..=825 * day,
            "1h to 825days",
        )?;
        within(
            "upload_patience",
            self.upload_patience,
            second..=600 * second,
            "1s to 10min",
        )?;
        within(
            "straggler_grace",
            self.straggler_grace,
            Duration::ZERO..=day,
            "0s to 1day",
        )?;
        let handshake = Duration::from_millis(100)..=60 * second;
        within(
            "handshake_timeout",
            self.handshake_timeout,
            handshake,
            "100ms to 1min",
        )?;
        let shutdown = Duration::ZERO..=600 * second;
        within(
            "shutdown_grace",
            self.shutdown_grace,
            shutdown,
            "0s to 10min",
        )?;
        let counts: [(_, usize, _, _); 3] = [
            (
                "upload_concurrency",
                self.upload_concurrency,
                1..=1024,
                "1 to 1024",
            ),
            (
                "max_connections",
                self.max_connections,
                1..=100_000,
                "1 to 100000",
            ),
            (
                "max_handshakes",
                self.max_handshakes,
                1..=10_000,
                "1 to 10000",
            ),
        ];
        for (field, found, range, allowed) in counts {
            if !range.contains(&found) {
                let found = found.to_string();
                return Err(SettingsError::Unsound {
                    field,
                    allowed,
                    found,
                });
            }
        }
        // Whole words of 4 bytes on the wire, so that a chunk can be checked on its own.
        if !CHUNK_BYTES.contains(&self.chunk_bytes) || !self.chunk_bytes.is_multiple_of(8) {
            return Err(SettingsError::Unsound {
                field: "chunk_bytes",
                allowed: "1024 to 1048576 and a multiple of 8",
                found: self.chunk_bytes.to_string(),
            });
        }
        Ok(())
    }
}

enum ParseError {
    Malformed(String),
    Unsound(SettingsError),
}

fn within(
    field: &'static str,
    found: Duration,
    range: RangeInclusive<Duration>,
    allowed: &'static str,
) -> Result<(), SettingsError> {
    if range.contains(&found) {
        return Ok(());
    }
    let found = humantime::format_duration(found).to_string();
    Err(SettingsError::Unsound {
        field,
        allowed,
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, overrides: &[(&str, &str)]) -> Result<Settings, String> {
        let overrides = overrides
            .iter()
            .map(|(field, value)| (field.to_string(), value.to_string()));
        Settings::parse(text, overrides).map_err(|error| match error {
            ParseError::Malformed(reason) => reason,
            ParseError::Unsound(error) => error.to_string(),
        })
    }

    #[test]
    fn the_written_file_reads_back() {
        let settings = Settings {
            listen: SocketAddr::from(([0, 0, 0, 0], 1)),
            straggler_grace: Duration::from_millis(1500),
            ..Settings::default()
        };
        assert_eq!(parse(&settings.to_toml(), &[]), Ok(settings));
        assert_eq!(parse("", &[]), Ok(Settings::default()));
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let overrides = [("listen", "127.0.0.1:9"), ("upload_concurrency", "3")];
        let settings = parse("upload_concurrency = 2", &overrides).expect("sound overrides");
        assert_eq!(settings.listen.port(), 9);
        assert_eq!(settings.upload_concurrency, 3);
    }

    #[test]
    fn unknown_fields_and_values_out_of_range_are_named() {
        for (text, expected) in [
            ("port = 1", "port"),
            ("chunk_bytes = 1028", "chunk_bytes"),
            ("chunk_bytes = 512", "chunk_bytes"),
            ("certificate_lifetime = \"1s\"", "certificate_lifetime"),
            ("max_connections = 0", "max_connections"),
            ("listen = \"localhost\"", "listen"),
        ] {
            let refused = parse(text, &[]).expect_err(text);
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
