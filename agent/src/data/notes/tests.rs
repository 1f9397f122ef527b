//! Bad input of every kind, files changed at random, and the public corpora where they are at hand.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use consilium_models::text::Argument;

use super::{draft::Draft, *};

/// One sound file of each form, all scripts and line ends in them.
const SOUND: [(&str, &str); 6] = [
    ("a.txt", "Zoë took aspirin.\r\nالمريض 患者 fièvre\n"),
    (
        "a.ann",
        "T1\tPerson 0 3\tZoë\nT2\tDrug 4 8;9 16\ttook aspirin\nE1\tTaking:T2 Who:T1\n\
         R1\tBY Arg1:E1 Arg2:T1\nN1\tReference T2 MeSH:D1\taspirin\nA1\tNEG E1\n#1\tNote T1\tx\n",
    ),
    (
        "a.jsonl",
        "{\"id\": \"1\", \"text\": \"患者 fièvre 39°\", \"patient\": \"p\", \"label\": \"x\", \
         \"entities\": [{\"start\": 3, \"end\": 9, \"kind\": \"S\", \"value\": \"fièvre\", \"id\": \"e\"}, \
         {\"start\": 0, \"end\": 5, \"type\": \"T\", \"code\": \"C1\"}], \
         \"relations\": [{\"kind\": \"R\", \"from\": \"e\", \"to\": \"C1\"}]}\n\
         {\"id\": 2, \"text\": \"حمى\", \"patient\": \"q\"}\r\n",
    ),
    (
        "a.csv",
        "id,label,patient,text\r\n1,x,p,\"fièvre, \"\"39\"\"\r\n患者\"\r\n2,,q,حمى\r\n",
    ),
    (
        "a.conll",
        "# pmid = 1\nWilson\tB-D\ndisease\tI-D\n\n患者\tO\n# pmid = 2\nfièvre\tB-S\r\nحمى\tB-S\n",
    ),
    (
        "a.pubtator",
        "1|t|Zoë: aspirin\n1|a|bled twice 患者\n1\t5\t12\taspirin\tChemical\tD1\n\
         1\t13\t17\tbled\tEvent\tD2|D3\textra\n1\tCID\tD1\tD3\n\n2|t|حمى\r\n2\t0\t3\tحمى\tS\t-1\r\n",
    ),
];

fn sound(name: &str) -> &'static str {
    let found = SOUND.into_iter().find(|(file, _)| *file == name);
    found.expect("one of the files").1
}

/// What is read of a file with this name and content.
fn read_bytes(name: &str, bytes: &[u8]) -> Result<Vec<ReadNote>, NotesError> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(name);
    fs::write(&file, bytes).expect("room");
    read(&file, None, &Fields::default())
}

/// What is said of a file that is refused.
fn refusal(name: &str, bytes: &[u8]) -> String {
    read_bytes(name, bytes).expect_err(name).to_string()
}

/// Forms that hold all of a note in one file.
fn whole_files() -> impl Iterator<Item = (&'static str, &'static str)> {
    SOUND.into_iter().filter(|(name, _)| *name != "a.ann")
}

/// Everything that whoever uses a note relies on.
fn check(notes: &[ReadNote]) {
    let mut ids = HashSet::new();
    for ReadNote { note, .. } in notes {
        assert!(ids.insert(&note.id), "an id comes twice");
        assert!(!note.text.trim().is_empty() && note.text.len() <= NOTE_LIMIT);
        assert!(note.entities.is_sorted_by_key(|entity| entity.span.start));
        for entity in &note.entities {
            let covered = entity.span.of(&note.text).expect("between characters");
            assert!(!covered.is_empty() && !entity.kind.trim().is_empty());
        }
        for relation in &note.relations {
            for side in [&relation.from, &relation.to] {
                match side {
                    Argument::Mention(at) => assert!(*at < note.entities.len()),
                    Argument::Concept(code) => assert!(note.entities.iter().any(|entity| {
                        let codes = entity.code.as_deref().unwrap_or_default();
                        codes.split('|').any(|one| one == code)
                    })),
                }
            }
        }
    }
}

#[test]
fn each_form_is_found_by_its_name_and_a_mark_before_the_text_is_dropped() {
    for (name, text) in whole_files() {
        let plain = read_bytes(name, text.as_bytes()).expect(name);
        let marked = read_bytes(name, format!("\u{FEFF}{text}").as_bytes()).expect(name);
        check(&plain);
        let notes = |read: Vec<ReadNote>| read.into_iter().map(|r| r.note).collect::<Vec<_>>();
        assert!(notes(plain) == notes(marked), "{name}");
    }
    let notes = read_bytes("x.pubtator.txt", sound("a.pubtator").as_bytes()).expect("by content");
    assert_eq!((notes.len(), notes[0].note.entities.len()), (2, 2));
    for other in ["notes", "notes.pdf", "notes.xml", "notes.xlsx"] {
        assert!(
            refusal(other, b"x").contains("name the file by its form"),
            "{other}"
        );
    }
}

#[test]
fn line_ends_of_windows_change_nothing_but_the_text_between_them() {
    for name in ["a.jsonl", "a.conll", "a.pubtator"] {
        let unix = sound(name).replace("\r\n", "\n");
        let windows = unix.replace('\n', "\r\n");
        let read = |text: &str| read_bytes(name, text.as_bytes()).expect(name);
        for (unix, windows) in read(&unix).into_iter().zip(read(&windows)) {
            assert!(unix.note == windows.note, "{name}");
        }
    }
}

#[test]
fn marks_beside_a_text_are_read_and_those_for_other_forms_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in SOUND {
        fs::write(folder.path().join(name), text).expect("room");
    }
    let (text, marks) = (folder.path().join("a.txt"), folder.path().join("a.ann"));
    let beside = read(&text, None, &Fields::default()).expect("sound");
    check(&beside);
    assert_eq!(
        (
            beside[0].note.entities.len(),
            beside[0].note.relations.len()
        ),
        (2, 2)
    );
    for (name, _) in whole_files().filter(|(name, _)| *name != "a.txt") {
        let refused = read(&folder.path().join(name), Some(&marks), &Fields::default());
        assert!(refused.is_err(), "{name}");
    }
}

#[test]
fn empty_files_and_empty_notes_are_refused() {
    for (name, _) in whole_files() {
        for bytes in ["", "\n", "\u{FEFF}", " \r\n\r\n"] {
            let message = refusal(name, bytes.as_bytes());
            assert!(message.contains(name), "{message}");
        }
    }
    assert!(refusal("a.csv", b"id,text\n").contains("no note"));
    assert!(
        refusal("a.jsonl", b"{\"text\": \"x\"}\n{\"text\": \"\\n\"}")
            .contains("line 2: the note is empty")
    );
}

#[test]
fn other_encodings_and_binary_files_are_refused_by_line_and_never_quoted() {
    let latin: Vec<u8> = "Secreto.\nEvolución y exploración: dolor torácico, fièvre"
        .chars()
        .map(|c| u8::try_from(u32::from(c)).expect("one byte"))
        .collect();
    // "Secreto", then "患者发热 血压 咳嗽" in GB2312.
    let chinese = b"Secreto\n\xBB\xBC\xD5\xDF\xB7\xA2\xC8\xC8 \xD1\xAA\xD1\xB9 \xBF\xC8\xCB\xD4\n";
    let wide: Vec<u8> = "\u{FEFF}Secreto"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (name, _) in whole_files() {
        for (bytes, line, part) in [
            (&latin[..], 2, "iconv -f WINDOWS-1252 -t UTF-8"),
            (&chinese[..], 2, "iconv -f GB18030 -t UTF-8"),
            (&wide[..], 1, "iconv -f UTF-16 -t UTF-8"),
            (b"Secreto\n\n\0\x01\x02binary", 3, "no text"),
        ] {
            let message = refusal(name, bytes);
            let place = format!("{name}, line {line}: ");
            assert!(
                message.contains(&place) && message.contains(part),
                "{message}"
            );
            assert!(!message.contains("Secreto"), "{message}");
        }
    }
}

#[test]
fn notes_of_five_megabytes_are_read_fast_in_every_form() {
    let words = "患者 took aspirin. ".repeat(250_000);
    let length = words.chars().count();
    assert!(words.len() > 5_000_000);
    let last = length - 9..length - 1;
    let marks: String = (0..5_000)
        .map(|at| {
            format!(
                "T{at}\tD {} {}\taspirin.\n",
                last.start - at * 17,
                last.end - at * 17
            )
        })
        .collect();
    let tokens: String = (0..500_000).map(|_| "aspirin\tB-D\nhelps\tO\n").collect();
    let start = Instant::now();
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("room");
    write("a.txt", &words);
    write("a.ann", &marks);
    write(
        "b.jsonl",
        &format!(
            "{{\"text\": \"{words}\", \"entities\": [{{\"start\": {}, \"end\": {}, \"kind\": \"D\"}}]}}",
            last.start, last.end
        ),
    );
    write("c.csv", &format!("text\n{words}\n"));
    write("d.conll", &format!("-DOCSTART-\tO\n{tokens}"));
    write(
        "e.pubtator",
        &format!(
            "1|t|t\n1|a|{words}\n1\t{}\t{}\taspirin.\tD\tC\n",
            last.start + 2,
            last.end + 2
        ),
    );
    for (name, entities) in [
        ("a.txt", 5_000),
        ("b.jsonl", 1),
        ("c.csv", 0),
        ("d.conll", 500_000),
        ("e.pubtator", 1),
    ] {
        let notes = read(&folder.path().join(name), None, &Fields::default()).expect(name);
        assert_eq!(
            (notes.len(), notes[0].note.entities.len()),
            (1, entities),
            "{name}"
        );
        check(&notes);
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn too_large_files_and_notes_are_refused_before_they_fill_the_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, _) in SOUND.iter().filter(|(name, _)| *name != "a.ann") {
        let file = folder.path().join(name);
        // A file with a hole: it takes no room.
        let hole = fs::File::create(&file).and_then(|open| open.set_len(FILE_LIMIT + 1));
        hole.expect("a file system with holes");
        let message = read(&file, None, &Fields::default())
            .expect_err("too large")
            .to_string();
        assert!(message.contains("at most 1073741824 bytes"), "{message}");
        fs::remove_file(file).expect("there");
    }
    let file = folder.path().join("a.txt");
    fs::write(&file, "x".repeat(NOTE_LIMIT + 1)).expect("room");
    for path in [&file, folder.path()] {
        let message = read(path, None, &Fields::default())
            .expect_err("too large")
            .to_string();
        assert!(message.contains("at most 16777216"), "{message}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let gone = folder.path().join("gone.csv");
    let error = read(&gone, None, &Fields::default()).expect_err("not there");
    assert!(matches!(error, NotesError::File { .. }), "{error}");
    fs::write(folder.path().join("a.txt"), "x").expect("room");
    let refused = read(folder.path(), Some(&gone), &Fields::default());
    assert!(matches!(refused, Err(NotesError::File { .. })));
    let refused = read(
        &folder.path().join("a.txt"),
        Some(&gone),
        &Fields::default(),
    );
    assert!(matches!(refused, Err(NotesError::File { .. })));
}

#[test]
fn nothing_of_a_note_shows_in_debug_output() {
    let notes = read_bytes("a.jsonl", sound("a.jsonl").as_bytes()).expect("sound");
    let shown = format!("{notes:?}");
    for secret in ["fièvre", "患者", "حمى", "\"p\""] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// Sound files of every form with bytes changed, cut, doubled and moved for a bounded time
/// (`FUZZ_SECONDS`, 1 unless told otherwise). Whatever is read after all must be a sound note.
#[test]
fn changed_files_cause_no_panic_and_no_unsound_note() {
    let seconds = std::env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(1.0));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    let fields = Fields::default();
    let (mut taken, mut refused) = (BTreeMap::new(), BTreeMap::new());
    let mut tried = 0;
    while Instant::now() < end || tried < 600 {
        let (name, text) = SOUND[tried % SOUND.len()];
        tried += 1;
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..below(4) {
            let at = below(bytes.len());
            let to = at + below(bytes.len() - at);
            match below(6) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
                1 => bytes.truncate(at),
                2 => bytes.insert(at, below(256) as u8),
                3 => drop(bytes.drain(at..to)),
                4 => bytes.insert(at, b"\t\n\r -|;:\"{}0123456789"[below(21)]),
                _ => bytes.extend_from_within(at..to),
            }
        }
        let file = Path::new(name);
        let notes = file::decode(file, bytes).and_then(|text| match name {
            "a.txt" => folder::note(file, text, None).map(|note| vec![note]),
            "a.ann" => {
                let mut draft = Draft::new("a".into(), sound("a.txt").into()).expect("a note");
                brat::mark(&mut draft, &text)
                    .map_err(|(line, reason)| NotesError::line(file, line, reason))?;
                Ok(vec![ReadNote {
                    note: draft.finish(),
                    place: Place::File(file.to_owned()),
                    unplaced: 0,
                }])
            }
            "a.jsonl" => json_lines::read(file, &text, &fields),
            "a.csv" => rows::read(file, &text, &fields),
            "a.conll" => conll::read(file, &text),
            _ => pubtator::read(file, &text),
        });
        match notes {
            Ok(notes) => {
                check(&notes);
                let _ = describe(&notes).to_string();
                *taken.entry(name).or_insert(0) += 1;
            }
            Err(error) => {
                let message = error.to_string();
                for secret in ["aspirin", "fièvre", "患者", "حمى"] {
                    assert!(!message.contains(secret), "{message}");
                }
                *refused.entry(name).or_insert(0) += 1;
            }
        }
    }
    assert!(
        taken.len() == SOUND.len() && refused.len() == SOUND.len(),
        "{taken:?} {refused:?}"
    );
}

/// A public corpus, or `None` (and a line that says so) where it is not.
fn corpus(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data")
        .join(name);
    if folder.exists() {
        return Some(folder);
    }
    // Written past the test runner's capture: a skipped comparison must be seen.
    let note = format!("skipped: no corpus {name} beside the repository");
    writeln!(std::io::stderr(), "{note}").expect("stderr takes a line");
    None
}

/// What a corpus holds, read as the caller says.
fn overview(path: &Path, fields: &Fields) -> Overview {
    let notes = read(path, None, fields).expect("a sound corpus");
    check(&notes);
    describe(&notes)
}

fn counts(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter()
        .map(|&(name, count)| (name.to_owned(), count))
        .collect()
}

/// The figures in this test and the next are those that the corpora come with.
#[test]
fn ncbi_disease_is_read_whole() {
    let Some(folder) = corpus("ncbi_disease") else {
        return;
    };
    for (part, documents, mentions) in [("train", 474, 4070), ("dev", 80, 643), ("test", 80, 762)] {
        let conll = overview(&folder.join(format!("{part}.conll")), &Fields::default());
        assert_eq!(conll.notes, documents, "{part}");
        assert_eq!(conll.entities, counts(&[("Disease", mentions)]));
        let pubtator = overview(
            &folder.join(format!("{part}.pubtator.txt")),
            &Fields::default(),
        );
        assert_eq!(pubtator.notes, documents);
        assert_eq!(pubtator.entities.values().sum::<usize>(), mentions);
    }
}

#[test]
fn bc5cdr_is_read_whole() {
    let Some(folder) = corpus("bc5cdr") else {
        return;
    };
    for (part, chemicals, diseases, tagged, relations) in [
        ("train", 4177, 3343, 3343, 828),
        ("dev", 4211, 3362, 3364, 791),
        ("test", 4252, 3558, 3558, 834),
    ] {
        let conll = overview(&folder.join(format!("{part}.conll")), &Fields::default());
        assert_eq!(conll.notes, 400);
        assert_eq!(
            conll.entities,
            counts(&[("Chemical", chemicals), ("Disease", tagged)])
        );
        let pubtator = overview(
            &folder.join(format!("{part}.pubtator.txt")),
            &Fields::default(),
        );
        assert_eq!(pubtator.notes, 400);
        assert_eq!(
            pubtator.entities,
            counts(&[("Chemical", chemicals), ("Disease", diseases)])
        );
        assert_eq!(pubtator.relations, counts(&[("CID", relations)]));
    }
}

#[test]
fn maccrobat_is_read_whole() {
    let Some(folder) = corpus("maccrobat2020/brat") else {
        return;
    };
    let notes = read(&folder, None, &Fields::default()).expect("a sound corpus");
    let characters: usize = notes
        .iter()
        .map(|read| read.note.text.chars().count())
        .sum();
    assert_eq!(characters, 457_567);
    let overview = overview(&folder, &Fields::default());
    assert_eq!((overview.notes, overview.entities.len()), (160, 41));
    assert_eq!(overview.entities.values().sum::<usize>(), 20_414);
    assert_eq!(overview.entities["Diagnostic_procedure"], 3700);
    let relations = [
        ("MODIFY", 9350),
        ("BEFORE", 1621),
        ("SUB_PROCEDURE", 1098),
        ("IDENTICAL", 638),
        ("AFTER", 315),
        ("CAUSE", 134),
    ];
    assert_eq!(overview.relations, counts(&relations));
}

#[test]
fn corpora_of_identifiers_are_read_whole() {
    let phi = Fields {
        entities: Some("phi".into()),
        ..Fields::default()
    };
    if let Some(file) = corpus("asq_phi/public.jsonl") {
        let overview = overview(&file, &phi);
        // One value does not occur in its text.
        assert_eq!((overview.notes, overview.unplaced), (841, 1));
        assert_eq!(overview.entities.values().sum::<usize>(), 2383);
    }
    if let Some(folder) = corpus("meddocan") {
        for (part, documents, mentions) in [
            ("train", 400, 9007),
            ("dev", 200, 4581),
            ("test", 200, 4540),
        ] {
            let overview = overview(&folder.join(format!("{part}.jsonl")), &phi);
            assert_eq!(overview.notes, documents);
            assert_eq!(overview.entities.values().sum::<usize>(), mentions);
        }
    }
}

#[test]
fn corpora_of_labelled_notes_are_read_whole() {
    if let Some(file) = corpus("medical_abstracts/public.csv") {
        let fields = Fields {
            label: Some("class".into()),
            ..Fields::default()
        };
        let overview = overview(&file, &fields);
        assert_eq!((overview.notes, overview.unlabelled), (2313, 0));
        let labels = [
            ("general pathological conditions", 770),
            ("neoplasms", 506),
            ("cardiovascular diseases", 488),
            ("nervous system diseases", 310),
            ("digestive system diseases", 239),
        ];
        assert_eq!(overview.labels, counts(&labels));
    }
    if let Some(file) = corpus("zh_internal_medicine_qa/public.jsonl") {
        let fields = Fields {
            text: vec!["title".into(), "question".into()],
            label: Some("department".into()),
            ..Fields::default()
        };
        let overview = overview(&file, &fields);
        assert_eq!((overview.notes, overview.labels.len()), (6119, 11));
        assert_eq!(
            (overview.labels["肝病科"], overview.labels["风湿免疫科"]),
            (2493, 15)
        );
    }
    if let Some(file) = corpus("mtsamples/public.jsonl") {
        let fields = Fields {
            text: vec!["transcription".into()],
            label: Some("medical_specialty".into()),
            ..Fields::default()
        };
        assert_eq!(overview(&file, &fields).notes, 316);
    }
}
