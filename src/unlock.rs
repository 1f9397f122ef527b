//! Opens and makes the key that seals a folder: from a key file, a credential or a passphrase.

use std::{
    io::{IsTerminal as _, stdin},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_privacy::seal::SealingKey;
use consilium_proto::ErrorCode;
use zeroize::Zeroizing;

use crate::{
    failure::{Classify as _, refuse},
    output,
};

const PASSPHRASE: &str = "CONSILIUM_PASSPHRASE";

/// Where the key comes from that seals what lies in the folder.
///
/// Without any of these the passphrase is taken from `CONSILIUM_PASSPHRASE`, or asked for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Key of the folder")]
pub struct Unlock {
    /// File of 32 bytes that seals the folder; `init` and `enrol` make it if it does not exist
    #[arg(long, value_name = "FILE", env = "CONSILIUM_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// Credential of the service manager (systemd) that seals the folder
    #[arg(
        long,
        value_name = "NAME",
        env = "CONSILIUM_CREDENTIAL",
        conflicts_with = "key_file"
    )]
    pub credential: Option<String>,
}

impl Unlock {
    /// The key of a folder that exists.
    ///
    /// # Errors
    /// No key is given and nobody can be asked, or the key file cannot be used.
    pub fn open(&self) -> Result<SealingKey> {
        self.given()?.map_or_else(|| ask(false), Ok)
    }

    /// The key for a new folder: makes the key file if there is none, asks for a passphrase twice.
    ///
    /// # Errors
    /// As [`Self::open`]; the two passphrases differ.
    pub fn create(&self) -> Result<SealingKey> {
        if let Some(path) = self.key_file.as_ref().filter(|path| !path.exists()) {
            let key = SealingKey::create_key_file(path).classify(ErrorCode::Denied)?;
            output::note(format_args!(
                "made the key file {}: keep a copy apart, what it seals is lost with it",
                path.display()
            ));
            return Ok(key);
        }
        self.given()?.map_or_else(|| ask(true), Ok)
    }

    fn given(&self) -> Result<Option<SealingKey>> {
        if let Some(path) = &self.key_file {
            return Ok(Some(
                SealingKey::from_key_file(path).classify(ErrorCode::Denied)?,
            ));
        }
        if let Some(name) = &self.credential {
            return Ok(Some(
                SealingKey::from_credential(name).classify(ErrorCode::Denied)?,
            ));
        }
        let Some(text) = std::env::var_os(PASSPHRASE) else {
            return Ok(None);
        };
        let text = text.into_string().ok().map(Zeroizing::new);
        let text = text.with_context(|| format!("{PASSPHRASE} is not UTF-8"))?;
        Ok(Some(
            SealingKey::from_passphrase(&text).classify(ErrorCode::Invalid)?,
        ))
    }
}

fn ask(twice: bool) -> Result<SealingKey> {
    if !stdin().is_terminal() {
        return refuse(
            ErrorCode::Invalid,
            format!("no key for the folder: give --key-file FILE or set {PASSPHRASE}"),
        );
    }
    let prompt = |text| rpassword::prompt_password(text).map(Zeroizing::new);
    let passphrase = prompt("Passphrase of the folder: ").context("asking for the passphrase")?;
    if twice && *prompt("The same again: ").context("asking for the passphrase")? != *passphrase {
        return refuse(
            ErrorCode::Invalid,
            "the two passphrases differ: nothing was made",
        );
    }
    SealingKey::from_passphrase(&passphrase).classify(ErrorCode::Invalid)
}
