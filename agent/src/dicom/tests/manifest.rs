//! Every file of the public collection, where it lies beside the repository: what becomes of it stands in
//! `collection.csv`, and any change of that is a failure.
//!
//! The collection's manifest holds what pydicom makes of each file. "exact" is a picture whose stored values
//! have the very hash of the manifest; "close" one of JPEG with loss whose lowest and highest value lie
//! within 2 of the manifest's and whose mean within 0.05, as no two decoders round alike; "unknown" one that
//! pydicom does not decode.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::super::*;

const EXPECTED: &str = include_str!("collection.csv");

/// The folder of the collection, if it is there; says so if not.
pub(super) fn collection() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/dicom");
    if !folder.is_dir() {
        println!("skipped: {} is not here", folder.display());
        return None;
    }
    Some(folder)
}

/// What the manifest says about one file.
struct Row(BTreeMap<String, String>);

impl Row {
    fn text(&self, column: &str) -> &str {
        self.0.get(column).map_or("", String::as_str)
    }

    fn number(&self, column: &str) -> Option<f64> {
        self.text(column).parse().ok()
    }
}

fn rows(folder: &Path) -> Vec<Row> {
    let mut reader = csv::Reader::from_path(folder.join("manifest.csv")).expect("a manifest");
    let rows = reader.deserialize().map(|row| Row(row.expect("a row")));
    rows.collect()
}

/// What becomes of a file.
fn outcome(folder: &Path, row: &Row) -> String {
    let bytes = fs::read(folder.join("files").join(row.text("file"))).expect("a file");
    let limits = Limits::default();
    let set = match DataSet::read(bytes, &limits) {
        Ok(set) => set,
        Err(error) => return format!("refused: {error}"),
    };
    let object = set
        .to_object()
        .expect("dicom-object takes what the walk passed");
    let rendered = Pixels::of(&set, &limits)
        .map_err(RenderError::from)
        .and_then(|pixels| Ok((agreement(&pixels, row)?, pixels.render(0, None))));
    match rendered {
        Err(RenderError::Frame(FrameError::NoPixels)) => "no pixels".into(),
        Err(error) => format!("refused: {error}"),
        Ok((agreement, Err(error))) => format!("{agreement}, not shown: {error}"),
        Ok((agreement, Ok(rendered))) => {
            // What dicom-object would write are the same pixels.
            if object.meta().transfer_syntax() == Syntax::ExplicitLittle.uid() {
                let mut bytes = Vec::new();
                object.write_dataset(&mut bytes).expect("memory takes it");
                let set = DataSet::in_syntax(bytes, Syntax::ExplicitLittle, &limits);
                let set = set.expect("what was written can be read");
                let again = Pixels::of(&set, &limits).expect("the same pixels");
                assert_eq!(self::agreement(&again, row).expect("the same"), agreement);
            }
            format!("{agreement}, {}", rendered.turn)
        }
    }
}

/// How well the stored values of all frames agree with the manifest.
fn agreement(pixels: &Pixels<'_>, row: &Row) -> Result<&'static str, FrameError> {
    let mut hash = Sha256::new();
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut sum, mut count) = (0.0, 0);
    for frame in 0..pixels.layout().frames() {
        let frame = pixels.frame(frame)?;
        hash.update(frame.to_bytes());
        for value in frame.values() {
            (low, high) = (low.min(value), high.max(value));
            sum += value;
            count += 1;
        }
    }
    let hash: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let numbers = (row.number("min"), row.number("max"), row.number("mean"));
    let (Some(wanted_low), Some(wanted_high), Some(wanted_mean)) = numbers else {
        return Ok("unknown");
    };
    let is_near = (low - wanted_low).abs() <= 2.0
        && (high - wanted_high).abs() <= 2.0
        && (sum / f64::from(count) - wanted_mean).abs() <= 0.05;
    let has_loss = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"];
    let has_loss = has_loss.contains(&row.text("transfer_syntax"));
    Ok(
        match (hash == row.text("pixels_sha256"), is_near && has_loss) {
            (true, _) => "exact",
            (false, true) => "close",
            (false, false) => "WRONG",
        },
    )
}

#[test]
fn every_file_of_the_collection_is_decoded_or_refused_as_it_ever_was() {
    let Some(folder) = collection() else { return };
    let mut reader = csv::Reader::from_reader(EXPECTED.as_bytes());
    let expected = reader.deserialize().map(|row| row.expect("a row"));
    let expected: BTreeMap<String, String> = expected.collect();
    let mut table: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let mut changes = Vec::new();
    for row in rows(&folder) {
        let outcome = outcome(&folder, &row);
        if expected.get(row.text("file")) != Some(&outcome) {
            changes.push(format!("{},\"{outcome}\"", row.text("file")));
        }
        let kind = outcome
            .split([',', ':'])
            .next()
            .unwrap_or_default()
            .to_owned();
        let syntax = match row.text("transfer_syntax_name") {
            "" => "none named",
            name => name,
        };
        *table
            .entry(syntax.to_owned())
            .or_default()
            .entry(kind)
            .or_default() += 1;
    }
    for (syntax, counts) in table {
        println!("{syntax}: {counts:?}");
    }
    assert!(changes.is_empty(), "changed:\n{}", changes.join("\n"));
    assert!(!EXPECTED.contains("WRONG"));
}
