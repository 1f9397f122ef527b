//! Objects made to hurt a reader: refused by name, with nothing allocated by what they claim.

use dicom_core::Tag;

use super::{super::*, objects::*};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";

fn read(bytes: Vec<u8>) -> Result<DataSet, ReadError> {
    DataSet::read(bytes, &Limits::default())
}

fn fault(bytes: Vec<u8>) -> WalkError {
    match read(bytes) {
        Err(ReadError::Walk(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_declared_length_beyond_the_file_is_refused() {
    let error = fault(memory_bomb());
    let WalkError::Overrun {
        tag, length, left, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((tag, length, left), (Tag(0x7FE0, 0x10), 2_930_000_000, 64));
}

#[test]
fn sequences_nest_64_deep_and_no_deeper() {
    assert!(matches!(
        fault(nested()),
        WalkError::TooDeep { limit: 64, .. }
    ));
    let mut entries = vec![text((8, 0x60), "CS", "CT")];
    for level in 1..=65 {
        entries = vec![items((0x40, 0xA730), vec![entries])];
        let result = read(object(EXPLICIT, &entries));
        assert_eq!(result.is_ok(), level <= 64, "{level}");
    }
}

#[test]
fn an_rle_frame_that_writes_past_its_plane_is_refused() {
    let set = read(overlong_rle()).expect("a sound data set");
    let pixels = Pixels::of(&set, &Limits::default()).expect("sound attributes");
    let error = pixels.frame(0).expect_err("too long");
    assert!(
        matches!(error, FrameError::Rle(RleError::Length { segment: 0 })),
        "{error}"
    );
}

#[test]
fn an_inner_length_beyond_its_outer_one_is_refused() {
    let inside = vec![text((8, 0x60), "CS", "CT")];
    let mut bytes = object(EXPLICIT, &[items((0x40, 0xA730), vec![inside])]);
    let item = bytes.len() - 18;
    bytes.extend([0; 100]);
    bytes[item + 4] += 2;
    assert!(matches!(
        fault(bytes),
        WalkError::Overrun {
            tag: Tag(0xFFFE, 0xE000),
            ..
        }
    ));
}

#[test]
fn floods_giants_and_bombs_of_deflate_meet_their_limits() {
    let limits = Limits {
        elements: 100,
        object_bytes: 10_000,
        ..Limits::default()
    };
    let many: Vec<Entry> = (0..101).map(|at| shorts((0x11, at), "US", &[1])).collect();
    let error = DataSet::read(object(EXPLICIT, &many), &limits).expect_err("too many");
    assert!(
        matches!(error, ReadError::Walk(WalkError::TooMany { limit: 100 })),
        "{error}"
    );
    let error = DataSet::read(vec![0; 10_001], &limits).expect_err("too large");
    assert!(
        matches!(error, ReadError::Walk(WalkError::TooLarge { .. })),
        "{error}"
    );
    let zeros = native(&vec![0; 1 << 20]);
    let bomb = object("1.2.840.10008.1.2.1.99", &[zeros]);
    assert!(bomb.len() < 9_000);
    let error = DataSet::read(bomb, &limits).expect_err("too large once inflated");
    let ReadError::Walk(WalkError::TooLarge { bytes, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(bytes, 10_001, "it stopped at the limit");
}

#[test]
fn the_same_tag_twice_and_tags_out_of_place_are_refused() {
    let id = |value| encoded(&[text((0x10, 0x20), "LO", value)], Form::Explicit);
    let twice = file(EXPLICIT, &[id("1 "), id("2 ")].concat());
    assert!(matches!(
        fault(twice),
        WalkError::OutOfOrder {
            tag: Tag(0x10, 0x20),
            ..
        }
    ));
    let delimiter = b"\xFE\xFF\x0D\xE0\0\0\0\0".to_vec();
    let stray = file(EXPLICIT, &[id("1 "), delimiter].concat());
    assert!(matches!(fault(stray), WalkError::OutOfPlace { .. }));
    let endless = [id("1 "), b"\x32\x00\x01\x00UT\0\0\xFF\xFF\xFF\xFF".to_vec()].concat();
    assert!(matches!(
        fault(file(EXPLICIT, &endless)),
        WalkError::NoLength { .. }
    ));
    let mut open = encoded(&[text((8, 0x60), "CS", "CT")], Form::Explicit);
    open.extend(b"\x40\x00\x30\xA7SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF");
    assert!(matches!(
        fault(file(EXPLICIT, &open)),
        WalkError::Cut { .. }
    ));
    let mut letters = id("1 ");
    letters[5] = 0;
    assert!(matches!(
        fault(file(EXPLICIT, &letters)),
        WalkError::NoRepresentation { .. }
    ));
}

#[test]
fn every_cut_of_an_object_is_refused_or_a_whole_number_of_elements() {
    let inside = vec![text((8, 0x60), "CS", "CT"), text((0x10, 0x20), "LO", "1")];
    let entries = with(
        image(4, 4, 8),
        [items((0x40, 0xA730), vec![inside]), native(&[9; 16])],
    );
    let whole = object(EXPLICIT, &entries);
    for length in 0..whole.len() {
        if let Ok(set) = read(whole[..length].to_vec()) {
            let pixels = Pixels::of(&set, &Limits::default());
            assert!(matches!(pixels, Err(FrameError::NoPixels)), "{length}");
        }
    }
}

#[test]
fn a_picture_beyond_the_limit_is_refused_before_it_is_decoded() {
    let limits = Limits {
        pixel_bytes: 31,
        ..Limits::default()
    };
    let entries = with(
        image(4, 4, 8),
        [text((0x28, 8), "IS", "2"), native(&[9; 32])],
    );
    let set = read(object(EXPLICIT, &entries)).expect("a data set");
    let error = Pixels::of(&set, &limits).map(drop).expect_err("too large");
    assert!(
        matches!(error, FrameError::TooLarge { frames: 2, .. }),
        "{error}"
    );
    let limits = Limits {
        frame_pixels: 15,
        ..Limits::default()
    };
    let error = Pixels::of(&set, &limits).map(drop).expect_err("too large");
    assert!(matches!(error, FrameError::TooLarge { .. }), "{error}");
    let huge = with(image(65_535, 65_535, 8), [native(&[9; 32])]);
    let huge = with(huge, [text((0x28, 8), "IS", "4294967295")]);
    let set = read(object(EXPLICIT, &huge)).expect("a data set");
    let error = Pixels::of(&set, &Limits::default())
        .map(drop)
        .expect_err("too large");
    assert!(matches!(error, FrameError::TooLarge { .. }), "{error}");
}

#[test]
fn frames_that_are_not_all_there_are_refused_from_the_first() {
    let entries = with(
        image(4, 4, 8),
        [text((0x28, 8), "IS", "2"), native(&[9; 30])],
    );
    let set = read(object(EXPLICIT, &entries)).expect("a data set");
    let pixels = Pixels::of(&set, &Limits::default()).expect("sound attributes");
    let error = pixels.frame(0).expect_err("cut");
    let is_cut = matches!(
        error,
        FrameError::Cut {
            found: 30,
            wanted: 32
        }
    );
    assert!(is_cut, "{error}");
}

#[test]
fn a_bare_data_set_is_read_where_only_one_encoding_fits() {
    let entries = with(image(2, 2, 8), [native(&[1, 2, 3, 4])]);
    for (form, syntax) in [
        (Form::Implicit, Syntax::ImplicitLittle),
        (Form::Explicit, Syntax::ExplicitLittle),
        (Form::Big, Syntax::ExplicitBig),
    ] {
        let bytes = encoded(&entries, form);
        assert_eq!(read(bytes.clone()).expect("one reading").syntax(), syntax);
        let set = DataSet::in_syntax(bytes, syntax, &Limits::default()).expect("the same");
        assert_eq!(set.syntax(), syntax);
    }
    // As implicit one element of 0x44C55 bytes, as explicit two.
    let length = 0x44C55_usize;
    let mut both = b"\x08\x00\x00\x00UL\x04\x00\0\0\0\0\x09\x00\x10\x00OB\0\0".to_vec();
    both.extend((length as u32 - 16).to_le_bytes());
    both.resize(8 + length, 0);
    assert!(matches!(read(both), Err(ReadError::Ambiguous)));
    for noise in [
        b"no object at all".to_vec(),
        vec![8; 40],
        vec![0x89, b'P', b'N', b'G'],
    ] {
        assert!(matches!(read(noise), Err(ReadError::NotDicom)));
    }
}

#[test]
fn neither_errors_nor_debug_show_values() {
    let secret = "MUSTERMANN";
    let entries = with(
        image(2, 2, 8),
        [
            text((0x10, 0x10), "PN", secret),
            text((0x10, 0x20), "LO", secret),
            text((0x28, 8), "IS", secret),
            text((0x20, 0x20), "CS", secret),
            native(&[1, 2, 3, 4]),
        ],
    );
    let set = read(object(EXPLICIT, &entries)).expect("a data set");
    let tags = Tags::of(&set);
    assert_eq!(tags.patient_id.as_deref(), Some(secret));
    let error = Pixels::of(&set, &Limits::default())
        .map(drop)
        .expect_err("no number");
    let lay = orientation(&set, 0).expect_err("no directions");
    let mut cut = object(EXPLICIT, &entries);
    cut.truncate(cut.len() - 1);
    let cut = read(cut).expect_err("cut");
    for shown in [
        format!("{set:?} {tags:?}"),
        format!("{error} {error:?}"),
        format!("{lay} {lay:?}"),
        format!("{cut} {cut:?}"),
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
