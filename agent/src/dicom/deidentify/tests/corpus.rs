//! Real files, where they are at hand: what changes in them, and what a checker says before and after.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::*;

/// Written past the test runner's capture: a skipped comparison must be seen.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("stderr takes a line");
}

/// Errors that are new in a file and no fault: before, the checker stops at private tags out of order; and a
/// sequence that a sender wrote as bytes of no named representation goes.
const EXPLAINED: [(&str, &str); 3] = [
    ("nested_priv_SQ.dcm", "PixelData has incorrect value length"),
    ("rtdose_rle.dcm", "Element=<ReferencedRTPlanSequence>"),
    (
        "rtdose_rle_1frame.dcm",
        "Element=<ReferencedRTPlanSequence>",
    ),
];

/// The files that can be read, each with its name.
fn corpus() -> &'static [(String, DefaultDicomObject)] {
    static CORPUS: OnceLock<Vec<(String, DefaultDicomObject)>> = OnceLock::new();
    CORPUS.get_or_init(read)
}

fn read() -> Vec<(String, DefaultDicomObject)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/dicom/files");
    let Ok(entries) = fs::read_dir(&folder) else {
        say("skipped: no data/dicom beside the repository");
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let mut read = Vec::new();
    for path in paths {
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        // Declares an element of 4 GiB: reading such a file is for the checks before the parser.
        if name.contains("length_bomb") {
            continue;
        }
        if let Ok(object) = dicom_object::open_file(&path) {
            read.push((name, object));
        }
    }
    read
}

fn export(object: DefaultDicomObject) -> Result<DefaultDicomObject, DeidentifyError> {
    let release = deidentifier(Options::default()).export(object, Pixels::SeenClean)?;
    Ok(release.ready().expect("seen"))
}

/// The bytes of the pixels, or of all their fragments.
fn pixels(object: &DefaultDicomObject) -> Option<Vec<u8>> {
    let element = object.get(tags::PIXEL_DATA)?;
    match element.value() {
        Value::PixelSequence(sequence) => Some(sequence.fragments().concat()),
        value => Some(value.to_bytes().ok()?.into_owned()),
    }
}

#[test]
fn real_files_keep_their_pixels_bit_for_bit_and_lose_their_names() {
    let corpus = corpus();
    let (mut exported, mut refused, mut with_pixels) = (0, 0, 0);
    for (name, object) in corpus {
        let Ok(export) = export(object.clone()) else {
            refused += 1;
            continue;
        };
        exported += 1;
        assert!(pixels(&export) == pixels(object), "{name}");
        with_pixels += usize::from(object.get(tags::PIXEL_DATA).is_some());
        let bytes = written(&export);
        let again = dicom_object::from_reader(bytes.as_slice()).expect("readable");
        let trimmed = |pixels: Option<Vec<u8>>| {
            pixels.map(|mut pixels| {
                // An odd number of bytes is padded when written.
                pixels.extend((pixels.len() % 2 == 1).then_some(0));
                pixels
            })
        };
        assert!(trimmed(pixels(&again)) == trimmed(pixels(object)), "{name}");
        let patient = value(object, tags::PATIENT_NAME).unwrap_or_default();
        let plain = patient.trim_matches(['^', ' ', '\0', '=']);
        if plain.len() >= 6 && plain.is_ascii() {
            let found = bytes
                .windows(plain.len())
                .any(|window| window == plain.as_bytes());
            assert!(!found, "{name}");
        }
        assert!(
            export
                .iter()
                .all(|element| element.header().tag.group() % 2 == 0),
            "{name}"
        );
    }
    if !corpus.is_empty() {
        say(&format!(
            "{exported} files exported, {with_pixels} with pixels; {refused} refused"
        ));
        assert!(exported > 90 && with_pixels > 70);
    }
}

#[test]
fn the_training_cache_gets_what_decoding_needs() {
    for (name, object) in corpus() {
        let release =
            deidentifier(Options::default()).training_object(object.clone(), Pixels::SeenClean);
        let Ok(reduced) = release.map(|release| release.ready().expect("seen")) else {
            continue;
        };
        for tag in [
            tags::ROWS,
            tags::COLUMNS,
            tags::BITS_ALLOCATED,
            tags::PHOTOMETRIC_INTERPRETATION,
            tags::RESCALE_SLOPE,
            tags::WINDOW_CENTER,
            tags::MODALITY,
            tags::PATIENT_ORIENTATION,
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
            tags::PIXEL_DATA,
        ] {
            if object
                .get(tag)
                .is_some_and(|element| element.vr() == VR::UN)
            {
                continue; // read as bytes before, as what it is afterwards
            }
            let text = |object: &DefaultDicomObject| {
                let text = value(object, tag)?;
                Some(text.trim_matches([' ', '\0']).to_owned())
            };
            assert_eq!(text(&reduced), text(object), "{name} {tag}");
        }
        assert!(reduced.iter().count() <= 40, "{name}");
    }
}

/// What `dciodvfy` (Debian's dicom3tools) finds wrong, each with how often.
fn errors(file: &Path) -> BTreeMap<String, usize> {
    let output = Command::new("dciodvfy")
        .arg(file)
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut errors = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("Error")) {
        // UIDs are other ones afterwards.
        let uid = |word: &str| {
            word.bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
        };
        let words = line
            .split(' ')
            .map(|word| if uid(word) { "UID" } else { word });
        let words: Vec<&str> = words.collect();
        *errors.entry(words.join(" ")).or_default() += 1;
    }
    errors
}

#[test]
fn a_checker_of_objects_finds_no_new_errors() {
    if Command::new("dciodvfy").arg("-version").output().is_err() {
        say("skipped: dciodvfy (dicom3tools) is not installed");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    let (mut checked, mut new) = (0, Vec::new());
    for (name, object) in corpus() {
        let Ok(export) = export(object.clone()) else {
            continue;
        };
        // Both are written by the same writer: what that one changes is not ours.
        if object.write_to_file(&before).is_err() {
            continue;
        }
        export.write_to_file(&after).expect("written");
        let before = errors(&before);
        for (error, count) in errors(&after) {
            let explained = EXPLAINED
                .iter()
                .any(|(file, part)| name == file && error.contains(part));
            if !explained && before.get(&error).is_none_or(|before| *before < count) {
                new.push(format!("{name}: {error}"));
            }
        }
        checked += 1;
    }
    say(&format!("dciodvfy: {checked} files before and after"));
    assert!(new.is_empty(), "{} new:\n{}", new.len(), new.join("\n"));
}
