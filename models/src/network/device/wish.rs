//! Where somebody wants networks to be trained, as it is written.

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// Where somebody wants networks to be trained. Written `auto`, `cpu`, `gpu`, `gpu:0` or `gpu:0,gpu:1`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Wish {
    /// On a graphics card that passes its test, otherwise on the processor.
    #[default]
    Auto,
    /// On the processor.
    Cpu,
    /// On all graphics cards that pass.
    AllCards,
    /// On these graphics cards, each once, counted from 0.
    Cards(Vec<usize>),
}

/// Not the name of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device: use `auto`, `cpu`, `gpu` (all cards), `gpu:0` or `gpu:0,gpu:1`")]
pub struct NoDevice(String);

impl FromStr for Wish {
    type Err = NoDevice;

    fn from_str(text: &str) -> Result<Self, NoDevice> {
        let wrong = || NoDevice(text.to_owned());
        Ok(match text {
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::AllCards,
            _ => {
                let mut cards = Vec::new();
                for name in text.split(',') {
                    let number = name.trim().strip_prefix("gpu:").ok_or_else(wrong)?;
                    let card = number.parse().map_err(|_| wrong())?;
                    if cards.contains(&card) {
                        return Err(wrong());
                    }
                    cards.push(card);
                }
                Self::Cards(cards)
            }
        })
    }
}

impl TryFrom<String> for Wish {
    type Error = NoDevice;

    fn try_from(text: String) -> Result<Self, NoDevice> {
        text.parse()
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::AllCards => f.write_str("gpu"),
            Self::Cards(cards) => {
                let names: Vec<_> = cards.iter().map(|card| format!("gpu:{card}")).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_as_it_is_written() {
        for text in ["auto", "cpu", "gpu", "gpu:3", "gpu:0,gpu:1"] {
            let wish: Wish = text.parse().expect("a wish");
            assert_eq!(wish.to_string(), text);
        }
        for text in [
            "",
            "gpu:",
            "gpu:-1",
            "cpu:0",
            "cuda:0",
            "gpu:0,",
            "gpu:1,gpu:1",
            "cpu,gpu:0",
        ] {
            let error = text.parse::<Wish>().expect_err(text);
            assert!(error.to_string().contains("gpu:0"), "{error}");
        }
    }
}
