//! From tags and stored values to the picture: every syntax, every way to lie, windows, tables, colours.

use super::{super::*, objects::*};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";

fn read(bytes: Vec<u8>) -> DataSet {
    DataSet::read(bytes, &Limits::default()).expect("a data set")
}

fn render(entries: &[Entry]) -> Result<Rendered, RenderError> {
    let set = read(object(EXPLICIT, entries));
    Pixels::of(&set, &Limits::default())?.render(0, None)
}

fn rounded(rendered: &Rendered) -> Vec<f32> {
    let thousandths = |pixel: &f32| (pixel * 1000.0).round() / 1000.0;
    rendered.picture.pixels().iter().map(thousandths).collect()
}

const WIDTH: usize = 24;
const HEIGHT: usize = 16;

/// Bright in the first corner, half as bright at the end of the first row, dark elsewhere.
fn marked() -> Vec<u8> {
    let pixel = |at: usize| match (at / WIDTH, at % WIDTH) {
        (0..8, 0..8) => 250,
        (0..8, 16..) => 130,
        _ => 10,
    };
    (0..WIDTH * HEIGHT).map(pixel).collect()
}

/// The marked picture in every syntax that these tests can write. JPEG 2000 is held by the exact hashes of
/// real files.
fn in_every_syntax(others: &[Entry]) -> Vec<(Syntax, Vec<u8>)> {
    let pixels = marked();
    let entries = |pixels| {
        let entries = with(image(HEIGHT as u16, WIDTH as u16, 8), [pixels]);
        with(entries, others.to_vec())
    };
    let lossless = lossless_jpeg(&pixels, WIDTH, HEIGHT);
    let baseline = jpeg(&pixels, WIDTH as u32, HEIGHT as u32);
    Syntax::DECODED
        .into_iter()
        .filter_map(|syntax| {
            let pixels = match syntax {
                Syntax::Jpeg2000 | Syntax::Jpeg2000Lossless => return None,
                Syntax::Rle => fragments(vec![rle(&[&pixels])]),
                Syntax::JpegBaseline | Syntax::JpegExtended => fragments(vec![baseline.clone()]),
                Syntax::JpegLossless | Syntax::JpegLosslessFirstOrder => {
                    fragments(vec![lossless.clone()])
                }
                _ => native(&pixels),
            };
            Some((syntax, object(syntax.uid(), &entries(pixels))))
        })
        .collect()
}

/// What lies in the corners: top left, top right, bottom left, bottom right.
fn corners(rendered: &Rendered) -> [char; 4] {
    let (width, height) = (rendered.picture.width(), rendered.picture.height());
    let mark = |row: usize, column: usize| match rendered.picture.pixels()[row * width + column] {
        pixel if (pixel - 250.0 / 255.0).abs() < 0.02 => 'B',
        pixel if (pixel - 130.0 / 255.0).abs() < 0.02 => 'h',
        pixel if (pixel - 10.0 / 255.0).abs() < 0.02 => '.',
        pixel => panic!("{pixel}"),
    };
    [
        mark(2, 2),
        mark(2, width - 3),
        mark(height - 3, 2),
        mark(height - 3, width - 3),
    ]
}

#[test]
fn no_picture_comes_out_rotated_or_mirrored_against_its_tags() {
    // Where rows and columns run to, and where the marks must be in the usual view.
    let ways = [
        ("", ['B', 'h', '.', '.']),
        ("L\\F", ['B', 'h', '.', '.']),
        ("R\\F", ['h', 'B', '.', '.']),
        ("L\\H", ['.', '.', 'B', 'h']),
        ("R\\H", ['.', '.', 'h', 'B']),
        ("F\\L", ['B', '.', 'h', '.']),
        ("F\\R", ['.', 'B', '.', 'h']),
        ("H\\L", ['h', '.', 'B', '.']),
        ("H\\R", ['.', 'h', '.', 'B']),
        ("A\\F", ['h', 'B', '.', '.']),
        ("L\\P", ['B', 'h', '.', '.']),
        ("L\\A", ['.', '.', 'B', 'h']),
    ];
    for (letters, wanted) in ways {
        let tags = match letters {
            "" => vec![],
            letters => vec![text((0x20, 0x20), "CS", letters)],
        };
        for (syntax, bytes) in in_every_syntax(&tags) {
            let set = read(bytes);
            let pixels = Pixels::of(&set, &Limits::default()).expect("pixels");
            let rendered = pixels.render(0, None).expect("a picture");
            assert_eq!(corners(&rendered), wanted, "{letters} in {syntax}");
            assert_eq!(
                rendered.turn.is_none(),
                wanted == ['B', 'h', '.', '.'],
                "{letters}"
            );
            if !matches!(syntax, Syntax::JpegBaseline | Syntax::JpegExtended) {
                let stored = pixels.frame(0).expect("a frame");
                assert_eq!(stored.to_bytes(), marked(), "{syntax}");
            }
        }
    }
}

#[test]
fn vectors_turn_a_slice_as_letters_do() {
    let slice = |orientation: &str, others: Vec<Entry>| {
        let entries = with(
            image(HEIGHT as u16, WIDTH as u16, 8),
            [text((0x20, 0x37), "DS", orientation), native(&marked())],
        );
        render(&with(entries, others))
    };
    let upended = slice("1\\0\\0\\0\\-1\\0", vec![]).expect("a picture");
    assert_eq!(corners(&upended), ['.', '.', 'B', 'h']);
    let letters = |letters| vec![text((0x20, 0x20), "CS", letters)];
    assert!(slice("1\\0\\0\\0\\-1\\0", letters("L\\A")).is_ok());
    let error = slice("1\\0\\0\\0\\-1\\0", letters("L\\P")).expect_err("contradiction");
    assert!(matches!(
        error,
        RenderError::Orientation(OrientationError::Contradiction)
    ));
    assert!(slice("left to right", vec![]).is_err());
    let error = slice("1\\0\\0\\1\\0\\0", vec![]).expect_err("parallel");
    assert!(matches!(
        error,
        RenderError::Orientation(OrientationError::NotPerpendicular)
    ));
}

#[test]
fn a_frame_of_an_enhanced_object_lies_as_its_own_group_says() {
    let plane = |orientation: &str| {
        let vectors = vec![text((0x20, 0x37), "DS", orientation)];
        vec![items((0x20, 0x9116), vec![vectors])]
    };
    let groups = items(
        (0x5200, 0x9230),
        vec![plane("1\\0\\0\\0\\1\\0"), plane("-1\\0\\0\\0\\1\\0")],
    );
    let entries = with(
        image(HEIGHT as u16, WIDTH as u16, 8),
        [
            text((0x28, 8), "IS", "2"),
            groups,
            native(&[marked(), marked()].concat()),
        ],
    );
    let set = read(object(EXPLICIT, &entries));
    let pixels = Pixels::of(&set, &Limits::default()).expect("pixels");
    let frame = |at| corners(&pixels.render(at, None).expect("a picture"));
    assert_eq!(frame(0), ['B', 'h', '.', '.']);
    assert_eq!(frame(1), ['h', 'B', '.', '.']);
    let error = pixels.frame(2).expect_err("two frames");
    assert!(matches!(
        error,
        FrameError::NoFrame {
            frame: 2,
            frames: 2
        }
    ));
}

#[test]
fn a_mammogram_stays_as_stored_and_its_side_is_told() {
    let entries = with(
        image(HEIGHT as u16, WIDTH as u16, 8),
        [
            text((8, 0x60), "CS", "MG"),
            text((0x20, 0x20), "CS", "P\\L"),
            text((0x20, 0x62), "CS", "R"),
            text((0x18, 0x5101), "CS", "CC"),
            native(&marked()),
        ],
    );
    let rendered = render(&entries).expect("a picture");
    assert_eq!(corners(&rendered), ['B', 'h', '.', '.']);
    let tags = Tags::of(&read(object(EXPLICIT, &entries)));
    assert_eq!(tags.view.as_deref(), Some("CC"));
    let lay = tags.orientation.expect("sound tags");
    assert_eq!(lay.side, Some(Side::Right));
    assert_eq!(
        lay.directions,
        Some((Direction::Posterior, Direction::Left))
    );
    let both = with(entries, [text((0x20, 0x60), "CS", "L")]);
    let error = render(&both).expect_err("two sides");
    assert!(matches!(
        error,
        RenderError::Orientation(OrientationError::Sides)
    ));
}

fn assert_near(rendered: &Rendered, wanted: &[f32]) {
    let pixels = rendered.picture.pixels();
    assert_eq!(pixels.len(), wanted.len());
    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
    assert!(pixels.iter().zip(wanted).all(is_near), "{pixels:?}");
}

#[test]
fn windows_follow_the_formulas_of_the_standard() {
    // Hounsfield units -1024, -60, 40, 140, 1000 by a rescale of -1024.
    let values = [0, 964, 1064, 1164, 2024];
    let ct = |others: Vec<Entry>| {
        let entries = with(
            image(1, 5, 12),
            [
                text((0x28, 0x1052), "DS", "-1024"),
                text((0x28, 0x1053), "DS", "1"),
                text((0x28, 0x1050), "DS", "40\\300"),
                text((0x28, 0x1051), "DS", "201\\1500"),
                native_words(&values),
            ],
        );
        render(&with(entries, others))
    };
    let linear = ct(vec![]).expect("a picture");
    assert_near(&linear, &[0.0, 0.0025, 0.5025, 1.0, 1.0]);
    let own = Contrast::Own(Window {
        centre: 40.0,
        width: 201.0,
    });
    assert_eq!(linear.contrast, own);
    let function = |name| vec![text((0x28, 0x1056), "CS", name)];
    let exact = ct(function("LINEAR_EXACT")).expect("a picture");
    assert_near(&exact, &[0.0, 0.00249, 0.5, 0.99751, 1.0]);
    let sigmoid = ct(function("SIGMOID")).expect("a picture");
    assert_near(&sigmoid, &[0.0, 0.12025, 0.5, 0.87975, 1.0]);
    assert!(ct(function("CUBIC")).is_err());
    assert!(ct(vec![text((0x28, 0x1051), "DS", "0")]).is_err());
    let inverted = ct(vec![text((0x28, 4), "CS", "MONOCHROME1")]).expect("a picture");
    assert_near(&inverted, &[1.0, 0.9975, 0.4975, 0.0, 0.0]);
    for (element, value) in [(0x1053, "0"), (0x1053, "one"), (0x1052, "?"), (0x1050, "x")] {
        assert!(
            ct(vec![text((0x28, element), "DS", value)]).is_err(),
            "{value}"
        );
    }
}

#[test]
fn a_given_window_overrides_the_objects_own() {
    let entries = with(
        image(1, 3, 12),
        [
            text((0x28, 0x1050), "DS", "1"),
            text((0x28, 0x1051), "DS", "2"),
            native_words(&[0, 100, 200]),
        ],
    );
    let set = read(object(EXPLICIT, &entries));
    let pixels = Pixels::of(&set, &Limits::default()).expect("pixels");
    let window = Window {
        centre: 100.5,
        width: 201.0,
    };
    let rendered = pixels.render(0, Some(window)).expect("a picture");
    assert_eq!(rounded(&rendered), [0.0, 0.5, 1.0]);
    assert_eq!(rendered.contrast, Contrast::Given(window));
}

#[test]
fn without_a_window_bytes_keep_their_range_and_words_take_their_own() {
    let bytes = render(&with(image(1, 2, 8), [native(&[51, 102])])).expect("a picture");
    assert_eq!(
        (rounded(&bytes), bytes.contrast),
        (vec![0.2, 0.4], Contrast::WholeRange)
    );
    let padded = with(
        image(1, 4, 16),
        [
            shorts((0x28, 0x103), "US", &[1]),
            shorts((0x28, 0x120), "SS", &[(-2000_i16).cast_unsigned()]),
            native_words(&[-2000_i16, -100, 0, 100].map(i16::cast_unsigned)),
        ],
    );
    let words = render(&padded).expect("a picture");
    assert_eq!(
        (rounded(&words), words.contrast),
        (vec![0.0, 0.0, 0.5, 1.0], Contrast::FrameRange)
    );
    let flat = render(&with(image(1, 2, 16), [native_words(&[7, 7])])).expect("a picture");
    assert_eq!(rounded(&flat), [0.0, 0.0]);
}

#[test]
fn tables_of_the_modality_and_of_the_window_are_looked_up() {
    let table = |descriptor: &[u16], data: &[u16]| {
        vec![vec![
            shorts((0x28, 0x3002), "US", descriptor),
            shorts((0x28, 0x3006), "OW", data),
        ]]
    };
    let entries = with(
        image(1, 4, 8),
        [
            items((0x28, 0x3000), table(&[3, 10, 16], &[5, 6, 7])),
            items((0x28, 0x3010), table(&[2, 6, 8], &[51, 255])),
            native(&[0, 11, 12, 255]),
        ],
    );
    let rendered = render(&entries).expect("a picture");
    assert_eq!(
        (rounded(&rendered), rendered.contrast),
        (vec![0.2, 0.2, 1.0, 1.0], Contrast::Table)
    );
    let short = with(
        entries,
        [items((0x28, 0x3010), table(&[9, 6, 8], &[51, 255]))],
    );
    assert!(render(&short).is_err());
}

#[test]
fn palettes_become_colours() {
    let mut entries = with(
        image(1, 2, 8),
        [text((0x28, 4), "CS", "PALETTE COLOR"), native(&[0, 1])],
    );
    for (at, data) in [[65_535, 0], [0, 65_535], [13_107, 0]].iter().enumerate() {
        let at = at as u16;
        entries.push(shorts((0x28, 0x1101 + at), "US", &[2, 0, 16]));
        entries.push(shorts((0x28, 0x1201 + at), "OW", data));
    }
    let rendered = render(&entries).expect("a picture");
    assert_eq!(rendered.picture.channels(), 3);
    assert_eq!(rounded(&rendered), [1.0, 0.0, 0.0, 1.0, 0.2, 0.0]);
    entries.retain(|entry| entry.0 != (0x28, 0x1203));
    assert!(render(&entries).is_err());
}

#[test]
fn colours_by_plane_and_side_by_side_give_the_same_picture() {
    let colour = |planar, pixels: &[u8]| {
        render(&with(
            image(1, 2, 8),
            [
                shorts((0x28, 2), "US", &[3]),
                text((0x28, 4), "CS", "RGB"),
                shorts((0x28, 6), "US", &[planar]),
                native(pixels),
            ],
        ))
    };
    let side_by_side = colour(0, &[255, 51, 0, 0, 102, 255]).expect("a picture");
    assert_eq!(rounded(&side_by_side), [1.0, 0.0, 0.2, 0.4, 0.0, 1.0]);
    let by_plane = colour(1, &[255, 0, 51, 102, 0, 255]).expect("a picture");
    assert_eq!(by_plane, side_by_side);
}

#[test]
fn bits_beyond_those_stored_do_not_count() {
    let values = |syntax: Syntax, high_bit: u16, pixels: Entry| {
        let entries = with(
            image(1, 2, 12),
            [
                shorts((0x28, 0x102), "US", &[high_bit]),
                shorts((0x28, 0x103), "US", &[1]),
                pixels,
            ],
        );
        let set = read(object(syntax.uid(), &entries));
        let pixels = Pixels::of(&set, &Limits::default()).expect("pixels");
        let frame = pixels.frame(0).expect("a frame");
        frame.values().collect::<Vec<_>>()
    };
    let low = values(Syntax::ExplicitLittle, 11, native_words(&[0xF801, 0x07FF]));
    assert_eq!(low, [-2047.0, 2047.0]);
    let high = values(Syntax::ExplicitLittle, 15, native_words(&[0x801F, 0x7FFF]));
    assert_eq!(high, [-2047.0, 2047.0]);
    let coded = fragments(vec![rle(&[&[0x08, 0xF7], &[0x01, 0xFF]])]);
    assert_eq!(values(Syntax::Rle, 11, coded), [-2047.0, 2047.0]);
}

#[test]
fn a_stream_that_is_not_what_the_object_says_is_refused() {
    let stream = jpeg(&marked(), WIDTH as u32, HEIGHT as u32);
    let try_it = |syntax: Syntax, rows: u16, stream: &[u8]| {
        let entries = with(
            image(rows, WIDTH as u16, 8),
            [fragments(vec![stream.to_vec()])],
        );
        let set = read(object(syntax.uid(), &entries));
        Pixels::of(&set, &Limits::default()).and_then(|pixels| pixels.frame(0))
    };
    assert!(try_it(Syntax::JpegBaseline, 16, &stream).is_ok());
    let errors = [
        try_it(Syntax::JpegBaseline, 17, &stream),
        try_it(Syntax::JpegLossless, 16, &stream),
        try_it(Syntax::JpegBaseline, 16, &stream[..stream.len() - 2]),
        try_it(Syntax::JpegBaseline, 16, b"\xFF\xD8\xFF\xD9"),
        try_it(Syntax::Jpeg2000, 16, &stream),
    ];
    for error in errors {
        let error = error.expect_err("refused");
        assert!(
            matches!(error, FrameError::Contradiction(_) | FrameError::Damaged(_)),
            "{error}"
        );
    }
}

#[test]
fn tags_are_typed_and_text_is_decoded() {
    let entries = with(
        image(2, 3, 8),
        [
            text((8, 5), "CS", "ISO_IR 144"),
            text((8, 8), "CS", "DERIVED\\SECONDARY"),
            text((8, 0x20), "DA", "20040119"),
            text((8, 0x23), "DA", "2004.13.19"),
            Entry(
                (0x10, 0x20),
                "LO",
                Content::Bytes(b"\xbb\xee\xdacek".to_vec()),
            ),
            text((0x28, 0x30), "DS", "0.5\\0.25"),
            text((0x28, 0x301), "CS", "YES"),
            text((0x20, 0xD), "UI", "1.2.3"),
            text((0x20, 0xE), "UI", "../../etc"),
            native(&[0; 6]),
        ],
    );
    let tags = Tags::of(&read(object(EXPLICIT, &entries)));
    assert_eq!(tags.patient_id.as_deref(), Some("Люкcek"));
    assert_eq!(tags.image_type, ["DERIVED", "SECONDARY"]);
    let date = tags
        .study_date
        .map(|date| (date.year, date.month, date.day));
    assert_eq!((date, tags.image_date), (Some((2004, 1, 19)), None));
    assert_eq!(tags.pixel_spacing, Some([0.5, 0.25]));
    assert_eq!(tags.burned_in, BurnedIn::Yes);
    assert_eq!(tags.study.as_ref().map(Uid::as_str), Some("1.2.3"));
    assert_eq!(tags.series, None);
    assert_eq!(
        (tags.rows, tags.columns, tags.frames),
        (Some(2), Some(3), 1)
    );
}

#[test]
fn an_object_written_anew_is_the_same_in_every_encoding() {
    let inside = vec![
        text((8, 0x100), "SH", "T-A0100"),
        shorts((0x28, 0x10), "US", &[513]),
    ];
    let entries = with(
        image(2, 2, 16),
        [
            items((8, 0x2218), vec![inside]),
            native_words(&[1, 256, 65_535, 7]),
        ],
    );
    let written = |syntax: &str| {
        let set = read(object(syntax, &entries));
        let object = set.to_object().expect("an object");
        let mut bytes = Vec::new();
        object.write_dataset(&mut bytes).expect("memory takes it");
        bytes
    };
    let explicit = written(EXPLICIT);
    for syntax in [
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1.99",
    ] {
        assert_eq!(written(syntax), explicit, "{syntax}");
    }
    let set = DataSet::in_syntax(explicit, Syntax::ExplicitLittle, &Limits::default());
    let set = set.expect("what was written can be read");
    let frame = Pixels::of(&set, &Limits::default())
        .expect("pixels")
        .frame(0)
        .expect("a frame");
    assert_eq!(
        frame.values().collect::<Vec<_>>(),
        [1.0, 256.0, 65_535.0, 7.0]
    );
}
