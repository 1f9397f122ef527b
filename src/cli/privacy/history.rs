//! A history of releases from a file: phases as JSON objects, or in the short notation
//! `sgm(1.0,0.05)x600;lap(10.0)x3`.

use std::{num::NonZeroU32, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use consilium_privacy::accountant::Charge;
use consilium_proto::ErrorCode;
use serde::Deserialize;
use serde_json::Value;

use super::read_text;
use crate::failure::Classify as _;

/// Most phases of one history.
const MOST: usize = 10_000;

/// One phase, as people write it.
#[derive(Debug, Deserialize)]
#[serde(tag = "mechanism", rename_all = "snake_case", deny_unknown_fields)]
enum Phase {
    Sgm {
        #[serde(alias = "sigma")]
        noise_multiplier: f64,
        #[serde(alias = "q")]
        sampling_rate: f64,
        #[serde(alias = "count", alias = "releases")]
        steps: u32,
    },
    Tsgm {
        #[serde(alias = "sigma")]
        noise_multiplier: f64,
        #[serde(alias = "q")]
        sampling_rate: f64,
        #[serde(alias = "max_batch")]
        largest_batch: u32,
        #[serde(alias = "dataset_size")]
        units: u32,
        #[serde(alias = "count", alias = "releases")]
        steps: u32,
    },
    Gau {
        #[serde(alias = "sigma")]
        noise_multiplier: f64,
        #[serde(alias = "count", alias = "steps")]
        releases: u32,
    },
    Lap {
        #[serde(alias = "b")]
        scale: f64,
        #[serde(alias = "count")]
        releases: u32,
    },
    Pure {
        epsilon: f64,
        #[serde(alias = "count")]
        releases: u32,
    },
}

/// Reads a history file.
pub(super) fn read(path: &Path) -> Result<Vec<Charge>> {
    let text = read_text(path, "history")?;
    parse(&text)
        .classify(ErrorCode::Invalid)
        .with_context(|| format!("the history {}", path.display()))
}

fn parse(text: &str) -> Result<Vec<Charge>> {
    let phases = match serde_json::from_str(text).context("this is no JSON")? {
        Value::Array(phases) => phases,
        Value::Object(mut object) if object.len() == 1 && object.contains_key("phases") => {
            match object.remove("phases") {
                Some(Value::Array(phases)) => phases,
                _ => bail!("\"phases\" must be a list"),
            }
        }
        text @ Value::String(_) => vec![text],
        _ => bail!("it must be a list of phases: consilium privacy epsilon --help shows one"),
    };
    let mut charges = Vec::new();
    for (index, phase) in phases.into_iter().enumerate() {
        let read = match phase {
            Value::String(text) => text.split(';').map(short).collect(),
            phase => serde_json::from_value(phase)
                .map_err(Into::into)
                .and_then(Phase::charge)
                .map(|charge| vec![charge]),
        };
        charges.extend(read.with_context(|| format!("phase {}", index + 1))?);
        ensure!(charges.len() <= MOST, "it has more than {MOST} phases");
    }
    ensure!(!charges.is_empty(), "it has no phase");
    Ok(charges)
}

/// Reads `sgm(sigma,q)xT`, `tsgm(sigma,q,largest_batch,units)xT`, `gau(sigma)xk`, `lap(scale)xk` or
/// `pure(epsilon)xk`.
fn short(text: &str) -> Result<Charge> {
    let form = || {
        format!(
            "{:?} is none of sgm(sigma,q)xsteps, tsgm(sigma,q,largest_batch,units)xsteps, \
             gau(sigma)xcount, lap(scale)xcount, pure(epsilon)xcount",
            text.trim()
        )
    };
    let (kind, rest) = text.trim().split_once('(').with_context(form)?;
    let (numbers, count) = rest.split_once(")x").with_context(form)?;
    let releases = count.trim().parse().with_context(form)?;
    let numbers: Vec<f64> = numbers
        .split(',')
        .map(|number| number.trim().parse())
        .collect::<Result<_, _>>()
        .with_context(form)?;
    let phase = match (kind, numbers.as_slice()) {
        ("sgm", &[noise_multiplier, sampling_rate]) => Phase::Sgm {
            noise_multiplier,
            sampling_rate,
            steps: releases,
        },
        ("tsgm", &[noise_multiplier, sampling_rate, largest_batch, units]) => Phase::Tsgm {
            noise_multiplier,
            sampling_rate,
            largest_batch: whole(largest_batch).with_context(form)?,
            units: whole(units).with_context(form)?,
            steps: releases,
        },
        ("gau", &[noise_multiplier]) => Phase::Gau {
            noise_multiplier,
            releases,
        },
        ("lap", &[scale]) => Phase::Lap { scale, releases },
        ("pure", &[epsilon]) => Phase::Pure { epsilon, releases },
        _ => bail!(form()),
    };
    phase.charge()
}

/// A whole number, where a text gives all numbers alike.
fn whole(number: f64) -> Option<u32> {
    let whole = number as u32;
    (f64::from(whole) == number).then_some(whole)
}

impl Phase {
    fn charge(self) -> Result<Charge> {
        let charge = match self {
            Self::Sgm {
                noise_multiplier,
                sampling_rate,
                steps,
            } => Charge::SampledGaussian {
                q: sampling_rate.try_into()?,
                sigma: noise_multiplier.try_into()?,
                steps,
            },
            Self::Tsgm {
                noise_multiplier,
                sampling_rate,
                largest_batch,
                units,
                steps,
            } => Charge::TruncatedGaussian {
                q: sampling_rate.try_into()?,
                sigma: noise_multiplier.try_into()?,
                largest_batch: at_least_one(largest_batch, "the largest batch")?,
                units: at_least_one(units, "the number of units")?,
                steps,
            },
            Self::Gau {
                noise_multiplier,
                releases,
            } => Charge::SampledGaussian {
                q: 1.0.try_into()?,
                sigma: noise_multiplier.try_into()?,
                steps: releases,
            },
            Self::Lap { scale, releases } => {
                ensure!(
                    scale > 0.0,
                    "scale must be finite and above 0, found {scale}"
                );
                Charge::Laplace {
                    epsilon: (1.0 / scale).try_into()?,
                    releases,
                }
            }
            Self::Pure { epsilon, releases } => Charge::Pure {
                epsilon: epsilon.try_into()?,
                releases,
            },
        };
        ensure!(
            charge.releases() > 0,
            "a phase needs at least one release, found 0"
        );
        Ok(charge)
    }
}

fn at_least_one(number: u32, what: &str) -> Result<NonZeroU32> {
    NonZeroU32::new(number).with_context(|| format!("{what} must be at least 1, found 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_says_the_same() {
        let long = r#"[
            {"mechanism": "sgm", "noise_multiplier": 1.0, "sampling_rate": 0.05, "steps": 600},
            {"mechanism": "tsgm", "sigma": 1.0, "q": 0.01, "largest_batch": 130, "units": 10000,
             "steps": 1000},
            {"mechanism": "gau", "sigma": 5.0, "count": 10},
            {"mechanism": "lap", "scale": 10.0, "releases": 3},
            {"mechanism": "pure", "epsilon": 0.1, "releases": 1}
        ]"#;
        let short = "sgm(1.0,0.05)x600;tsgm(1.0,0.01,130,10000)x1000;gau(5.0)x10; \
                     lap(10.0)x3;pure(0.1)x1";
        let expected = parse(long).expect("phases");
        assert_eq!(expected.len(), 5);
        for text in [
            format!("{short:?}"),
            format!("[{short:?}]"),
            format!("{{\"phases\": {long}}}"),
        ] {
            assert_eq!(parse(&text).expect("phases"), expected, "{text}");
        }
    }

    #[test]
    fn a_bad_phase_is_named_with_its_place_and_what_is_allowed() {
        let refused = |text: &str| format!("{:#}", parse(text).expect_err(text));
        let second = r#"["lap(1.0)x1", {"mechanism": "sgm", "sigma": 0, "q": 0.1, "steps": 1}]"#;
        let message = refused(second);
        assert!(
            message.contains("phase 2") && message.contains("above 0"),
            "{message}"
        );
        assert!(refused(r#"[{"mechanism": "exp"}]"#).contains("`sgm`"));
        assert!(refused(r#""sgm(1.0)x5""#).contains("sgm(sigma,q)xsteps"));
        assert!(refused(r#""gau(1.0)x0""#).contains("at least one"));
        assert!(refused(r#""tsgm(1.0,0.1,0,9)x1""#).contains("largest batch"));
        assert!(refused(r#""tsgm(1.0,0.1,2.5,9)x1""#).contains("largest_batch"));
        assert!(refused(r#""lap(0)x1""#).contains("scale"));
        for text in ["", "{}", "[]", "3", r#"{"phases": 1}"#, "[null]"] {
            refused(text);
        }
    }
}
