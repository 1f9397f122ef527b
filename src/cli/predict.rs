//! `consilium predict …`: what released models say of pictures and notes. No network; nothing is stored.

mod image;
mod note;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use consilium_proto::ErrorCode;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{failure::refuse, output};

/// What released models say.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Classes of pictures, how sure the model is, and where in the picture they come from
    ///
    /// For research use only: not a medical device. Nothing leaves this machine.
    Image(Box<image::Options>),
    /// The conditions that notes speak for, each note by itself; `note analyse` gives all reasons
    ///
    /// For research use only: not a medical device. Nothing leaves this machine.
    Note(Box<note::Options>),
}

impl Command {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Image(options) => options.run(),
            Self::Note(options) => options.run(),
        }
    }
}

/// The files that paths name: those themselves, and of a folder all below it with one of these endings, in the
/// order of their names.
///
/// # Errors
/// Something is not there, or a folder has no such file.
pub(super) fn files(paths: &[PathBuf], endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
        if !metadata.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        collect(path, endings, &mut files)?;
        if files.len() == before {
            let endings = endings.join(", ");
            let message = format!("{} holds no file that ends in {endings}", path.display());
            return refuse(ErrorCode::Missing, message);
        }
    }
    Ok(files)
}

fn collect(folder: &Path, endings: &[&str], files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("reading {}", folder.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        entries.push(entry.with_context(context)?);
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // Links are not followed: they may go in circles.
        let kind = entry.file_type().with_context(context)?;
        if kind.is_dir() {
            collect(&path, endings, files)?;
        } else if kind.is_file() && has_ending(&path, endings) {
            files.push(path);
        }
    }
    Ok(())
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        endings
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
}

/// A bar for many files; none for one, or where nobody watches.
pub(super) fn bar(files: usize) -> ProgressBar {
    if files < 2 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(files as u64);
    // The template is a constant, which a test draws.
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} files, {eta} left")
        .expect("a sound template");
    bar.set_style(style.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What became of many files: those that could not be read are named, and end the command with an error.
fn finish(failed: &[String], files: usize) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    failed.iter().for_each(output::note);
    let message = format!(
        "{} of {files} files could not be read; the others were",
        failed.len()
    );
    refuse(ErrorCode::Invalid, message)
}

/// Writes rows as CSV, whole or not at all.
fn csv(path: &Path, rows: impl Iterator<Item = Vec<String>>) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row)?;
    }
    output::file(path, &writer.into_inner().context("writing rows")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_files_by_name_and_a_file_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("b")).expect("a folder");
        for name in ["c.PNG", "b/a.jpg", "a.png", "notes.txt"] {
            fs::write(path(name), "").expect("a file");
        }
        let root = [folder.path().to_owned(), path("notes.txt")];
        let found = files(&root, &["png", "jpg"]).expect("files");
        assert_eq!(
            found,
            [
                path("a.png"),
                path("b/a.jpg"),
                path("c.PNG"),
                path("notes.txt")
            ]
        );
        assert!(files(&[path("b")], &["txt"]).is_err());
        assert!(files(&[path("none")], &["txt"]).is_err());
        assert!(bar(2).length() == Some(2) && bar(1).is_hidden());
    }
}
