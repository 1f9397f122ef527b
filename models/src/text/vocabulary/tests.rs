//! Tests of the vocabulary: what is shipped, how text is cut, which files are read.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::*;

fn names(text: &str) -> Vec<String> {
    let vocabulary = Vocabulary::shipped();
    let pieces = vocabulary.pieces(text).into_iter();
    pieces
        .map(|piece| {
            vocabulary
                .name_of(piece.id)
                .expect("a piece of this vocabulary")
        })
        .collect()
}

fn written(name: &str, text: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(name);
    fs::write(&file, text).expect("room");
    (folder, file)
}

fn refused(name: &str, text: impl AsRef<[u8]>) -> String {
    let (_folder, file) = written(name, text);
    let error = Vocabulary::from_file(&file).expect_err("unsound");
    assert!(error.to_string().contains(name), "{error}");
    let source = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", source.unwrap_or_default())
}

#[test]
fn the_shipped_vocabulary_is_the_documented_one() {
    let vocabulary = Vocabulary::shipped();
    assert_eq!(vocabulary.len(), 14_772);
    assert!(include_str!("README.md").contains(vocabulary.digest()));
    for (id, name) in (0..).zip([
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[E1]", "[/E1]", "[E2]", "[/E2]",
    ]) {
        assert_eq!(vocabulary.id_of(name), Some(id), "{name}");
        assert_eq!(vocabulary.name_of(id).as_deref(), Some(name));
    }
    let specials = vocabulary.specials();
    assert_eq!(
        (specials.padding, specials.unknown, specials.mask),
        (0, 1, 4)
    );
    assert_eq!(specials.entities, Some([5, 6, 7, 8]));
    assert_eq!(vocabulary.name_of(14_772), None);
}

#[test]
fn words_are_cut_into_the_longest_known_pieces() {
    assert_eq!(
        names("Pneumonia, or asthma."),
        ["pneumonia", ",", "or", "asthma", "."]
    );
    assert_eq!(names("zzyx"), ["z", "##z", "##y", "##x"]);
    assert_eq!(names("7.35"), ["7", ".", "35"]);
    assert!(names("").is_empty() && names(" \t\r\n\u{0}\u{200d}").is_empty());
}

#[test]
fn every_chinese_character_is_a_piece_of_its_own() {
    assert_eq!(
        names("右肺CT示结节3mm"),
        ["右", "肺", "ct", "示", "结", "节", "3", "##mm"]
    );
    let vocabulary = Vocabulary::shipped();
    let characters: String = (8_009..14_772)
        .filter_map(|id| vocabulary.name_of(id))
        .collect();
    let pieces = vocabulary.pieces(&characters);
    assert_eq!(pieces.len(), 6_763);
    for (piece, (at, c)) in pieces.iter().zip(characters.char_indices()) {
        assert_eq!(piece.span, Span::new(at, at + c.len_utf8()));
        assert_ne!(piece.id, vocabulary.specials().unknown, "{c}");
    }
}

#[test]
fn every_ascii_character_can_be_spelt() {
    let unknown = Vocabulary::shipped().specials().unknown;
    for c in '!'..='~' {
        let pieces = Vocabulary::shipped().pieces(&format!("a{c}a{c}"));
        assert!(pieces.iter().all(|piece| piece.id != unknown), "{c}");
    }
}

#[test]
fn an_unknown_character_does_not_take_its_word_with_it() {
    assert_eq!(names("fever😀fever"), ["fever", "[UNK]", "fever"]);
    assert_eq!(names("5×10 38°C"), ["5", "×", "10", "3", "##8", "°", "c"]);
    assert_eq!(names("犇"), ["[UNK]"]);
    assert_eq!(names(&"a".repeat(101)), ["[UNK]"], "as long as no word is");
}

#[test]
fn the_name_of_a_special_piece_is_text_like_any_other() {
    assert_eq!(names("[SEP]"), ["[", "se", "##p", "]"]);
    let specials = 0..9;
    let pieces = Vocabulary::shipped().pieces("[PAD][CLS] [E1]aspirin[/E1] [MASK]");
    assert!(pieces.iter().all(|piece| !specials.contains(&piece.id)));
}

#[test]
fn offsets_are_those_of_the_text_as_written() {
    let text = "Ménière’s ﬁbrosis, ５㎎";
    let spans: Vec<&str> = Vocabulary::shipped()
        .pieces(text)
        .iter()
        .map(|piece| piece.span.of(text).expect("a place in the text"))
        .collect();
    assert_eq!(
        spans.concat(),
        "Ménière’sﬁbrosis,５㎎".replace("㎎", &repeated(&spans, "㎎"))
    );
    assert!(
        names(text).contains(&"fibrosis".to_owned()),
        "read by its NFKC form"
    );
}

/// What of a text's pieces stands for one character that became several.
fn repeated(spans: &[&str], character: &str) -> String {
    spans
        .iter()
        .filter(|span| **span == character)
        .copied()
        .collect()
}

#[test]
fn a_long_text_has_the_pieces_of_its_parts() {
    for (line, lines) in [
        ("Fever of 39.5 since Monday.\n", 2_000),
        ("发热三天，无咳嗽。", 3_000),
    ] {
        let long = Vocabulary::shipped().pieces(&line.repeat(lines));
        let one = Vocabulary::shipped().pieces(line);
        assert_eq!(long.len(), one.len() * lines);
        for (at, piece) in long.iter().enumerate() {
            let (of_line, shift) = (one[at % one.len()], at / one.len() * line.len());
            let span = Span::new(of_line.span.start + shift, of_line.span.end + shift);
            assert_eq!(
                *piece,
                Piece {
                    id: of_line.id,
                    span
                }
            );
        }
    }
}

#[test]
fn what_goes_on_without_end_takes_bounded_portions() {
    let text = "é".repeat(5 * PORTION);
    assert!(first_portion(&text).len() < 4 * PORTION + 4);
    let pieces = Vocabulary::shipped().pieces(&text);
    assert_eq!(pieces.last().map(|piece| piece.span.end), Some(text.len()));
}

#[test]
fn a_character_that_becomes_many_unknown_ones_is_unknown_once() {
    assert_eq!(names("ﷺﷺ"), ["[UNK]", "[UNK]"]);
}

#[test]
fn neither_pieces_nor_vocabulary_print_what_a_note_says() {
    let printed = format!("{:?}", Vocabulary::shipped().pieces("asthma"));
    assert_eq!(printed, "[Piece(Span { start: 0, end: 6 })]");
    assert!(format!("{:?}", Vocabulary::shipped()).len() < 120);
}

const BERT: &str =
    "[PAD]\n[unused1]\n[unused2]\n[unused3]\n[unused4]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";

#[test]
fn a_list_of_pieces_is_read_and_its_capitals_are_noticed() {
    let ids = |list: &str, text: &str| -> Vec<u32> {
        let (_folder, file) = written("vocab.txt", list);
        let vocabulary = Vocabulary::from_file(&file).expect("sound");
        assert_eq!(vocabulary.specials().entities, Some([1, 2, 3, 4]));
        vocabulary
            .pieces(text)
            .iter()
            .map(|piece| piece.id)
            .collect()
    };
    let uncased = format!("{BERT}fever\n##ish\n");
    assert_eq!(ids(&uncased, "Féverish x FEVER"), [9, 10, 5, 9]);
    assert_eq!(ids(&uncased.replace('\n', "\r\n"), "fever"), [9]);
    assert_eq!(
        ids(&format!("{BERT}fever\nFever\n"), "Fever fever FEVER"),
        [10, 9, 5]
    );
}

fn tokenizer_file(vocab: &str) -> String {
    let normalizer = r#"{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
        "strip_accents": null, "lowercase": false}"#;
    format!(
        r###"{{"truncation": {{"max_length": 2}}, "normalizer": {normalizer},
            "pre_tokenizer": {{"type": "BertPreTokenizer"}}, "model": {{"type": "WordPiece",
            "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": {{{vocab}}}}}}}"###
    )
}

const FIVE: &str = r#""[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4"#;

#[test]
fn a_tokenizer_file_says_how_its_text_is_read() {
    let vocab = format!(r#"{FIVE}, "a": 6, "A": 5"#);
    let (_folder, file) = written("tokenizer.json", tokenizer_file(&vocab));
    let vocabulary = Vocabulary::from_file(&file).expect("sound");
    let ids: Vec<u32> = vocabulary
        .pieces("a A a [SEP]")
        .iter()
        .map(|p| p.id)
        .collect();
    assert_eq!(ids, [6, 5, 6, 1, 1, 1]);
    assert_eq!(vocabulary.specials().entities, None);
}

#[test]
fn what_is_no_vocabulary_is_refused_and_named() {
    assert!(refused("vocab.txt", "a\nb\n").contains("[PAD]"));
    assert!(refused("vocab.txt", format!("{BERT}x\ny\nx\n")).contains("piece 12"));
    assert!(refused("vocab.txt", format!("{BERT}\nx\n")).contains("piece 10"));
    assert!(refused("vocab.txt", [0xff, 0xfe]).contains("UTF-8"));
    assert!(refused("tokenizer.json", "{}").contains("normalizer"));
    assert!(refused("tokenizer.json", tokenizer_file(r#""[PAD]": 1"#)).contains("id 0"));
    let twice = format!(r#"{FIVE}, "a": 4"#);
    assert!(refused("tokenizer.json", tokenizer_file(&twice)).contains("id 5"));
    let other = tokenizer_file(FIVE).replace("\"WordPiece\"", "\"BPE\"");
    assert!(refused("tokenizer.json", other).contains("WordPiece"));
    let missing = Vocabulary::from_file(&PathBuf::from("none.txt")).expect_err("no file");
    assert!(matches!(missing, VocabularyError::Read { .. }));
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("vocab.txt");
    let opened = fs::File::create(&file).expect("room");
    opened.set_len(VOCABULARY_LIMIT + 1).expect("a hole");
    let error = Vocabulary::from_file(&file).expect_err("too large");
    assert!(matches!(error, VocabularyError::TooLarge { .. }), "{error}");
}

/// Text that normalisation changes, joins, splits or drops, between text that it leaves.
fn texts() -> impl Strategy<Value = String> {
    let hard: Vec<char> = "ﬁ㎎½İßéẛΐ①㋀ﷺ한ｶﾞÅ豈中文a1 -[\u{323}\u{307}\u{301}\u{344}\u{f73}\u{1100}\
        \u{1161}\u{11a8}\u{200d}\u{0}\u{ad}\u{feff}\u{2f800}\u{202e}\n"
        .chars()
        .collect();
    let character = prop_oneof![2 => prop::sample::select(hard), 1 => any::<char>()];
    prop::collection::vec(character, 0..30).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn pieces_lie_between_characters_and_in_order(text in texts()) {
        let mut last = Span::new(0, 0);
        for piece in Vocabulary::shipped().pieces(&text) {
            prop_assert!(piece.span.of(&text).is_some_and(|part| !part.is_empty()));
            prop_assert!(piece.span.start >= last.start && piece.span.end >= last.end);
            prop_assert!((piece.id as usize) < Vocabulary::shipped().len());
            last = piece.span;
        }
    }

    #[test]
    fn portions_change_nothing(text in texts(), end in "[\n 中,-]", other in texts()) {
        let (parts, whole) = (format!("{text}{end}"), format!("{text}{end}{other}"));
        let pieces = |text: &str| Vocabulary::shipped().pieces(text);
        let mut joined = pieces(&parts);
        joined.extend(pieces(&other).into_iter().map(|Piece { id, span }| Piece {
            id,
            span: Span::new(span.start + parts.len(), span.end + parts.len()),
        }));
        prop_assert!(pieces(&whole) == joined);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_file_brings_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for name in ["vocab.txt", "tokenizer.json"] {
            let (_folder, file) = written(name, &bytes);
            prop_assert!(Vocabulary::from_file(&file).is_err());
        }
    }
}
