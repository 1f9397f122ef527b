//! Checks of small sets in which something is planted.

use consilium_models::random::Random;
use proptest::prelude::*;

use super::*;

/// A smooth picture, different for each seed, alike in its large forms.
fn picture(width: usize, height: usize, seed: u64) -> Picture {
    let mut random = Random::new(&[seed]);
    let waves: Vec<[f32; 3]> = (0..6)
        .map(|_| {
            [
                6.0 + random.unit() * 6.0,
                6.0 + random.unit() * 6.0,
                random.unit() * 6.0,
            ]
        })
        .collect();
    let value = |at: usize| {
        let (x, y) = (
            (at % width) as f32 / width as f32,
            (at / width) as f32 / height as f32,
        );
        let form = (1.0 - 2.0 * (x - 0.5).abs()) * 0.5;
        let detail: f32 = waves
            .iter()
            .map(|[a, b, c]| (a * x + b * y + c).sin())
            .sum();
        (0.2 + form + 0.04 * detail + 0.05 * random.unit()).clamp(0.0, 1.0)
    };
    Picture::new(width, height, 1, (0..width * height).map(value).collect()).expect("a picture")
}

fn changed(picture: &Picture, change: impl Fn(f32) -> f32) -> Picture {
    let pixels = picture
        .pixels()
        .iter()
        .map(|&pixel| change(pixel))
        .collect();
    Picture::new(picture.width(), picture.height(), 1, pixels).expect("a picture")
}

fn flat(grey: f32) -> Picture {
    Picture::new(40, 40, 1, vec![grey; 1600]).expect("a picture")
}

/// One record for each picture, each of its own patient.
fn check_pictures(pictures: &[Picture]) -> Report {
    let mut check = Check::new(Settings::default());
    for (at, picture) in pictures.iter().enumerate() {
        let (place, patient) = (format!("{at}.png"), format!("p{at}"));
        check.add(&Item {
            place: &place,
            part: Some(["train", "test"][at % 2]),
            label: Some(["ill", "well"][at / 2 % 2]),
            patient: Some(&patient),
            content: Content::Picture {
                picture,
                bits: Some(8),
            },
        });
    }
    check.finish()
}

fn finding(report: &Report, kind: Kind) -> Option<&Finding> {
    report.findings.iter().find(|finding| finding.kind == kind)
}

/// The places of all named cases of a kind.
fn places(report: &Report, kind: Kind) -> Vec<Vec<&str>> {
    let cases = finding(report, kind).map_or(&[][..], |finding| &finding.first);
    cases
        .iter()
        .map(|case| case.places.iter().map(String::as_str).collect())
        .collect()
}

#[test]
fn a_sound_set_has_no_findings() {
    let pictures: Vec<Picture> = (0..60).map(|seed| picture(40, 40, seed)).collect();
    let report = check_pictures(&pictures);
    assert_eq!(report.findings, []);
    assert_eq!((report.records, report.patients), (60, 60));
    assert!(
        report
            .to_string()
            .ends_with("label ill: 30\n  label well: 30\nnothing found\n")
    );
}

#[test]
fn copies_are_found_across_parts_and_labels_and_nearly_equal_ones_too() {
    let mut pictures: Vec<Picture> = (0..60).map(|seed| picture(40, 40, seed)).collect();
    pictures[21] = pictures[1].clone(); // the same part, another label? 1: ill, 21: ill
    pictures[30] = changed(&pictures[3], |grey| 0.9 * grey + 0.05);
    let report = check_pictures(&pictures);
    assert_eq!(places(&report, Kind::Copies), [["1.png", "21.png"]]);
    assert_eq!(places(&report, Kind::NearCopies), [["3.png", "30.png"]]);
    // 3 is of the test part, 30 of the training part, and their labels are well and well.
    assert_eq!(
        places(&report, Kind::CopiesAcrossParts),
        [["3.png", "30.png"]]
    );
    assert!(finding(&report, Kind::CopiesWithOtherLabels).is_none());
    let detail = &finding(&report, Kind::Copies).expect("one").first[0].detail;
    assert_eq!(detail, "2 patients");
    pictures[2] = pictures[1].clone();
    let report = check_pictures(&pictures);
    assert_eq!(
        places(&report, Kind::CopiesWithOtherLabels),
        [["1.png", "2.png", "21.png"]]
    );
}

#[test]
fn pictures_that_stand_out_are_named_with_their_reason() {
    let mut pictures: Vec<Picture> = (0..60).map(|seed| picture(40, 40, seed)).collect();
    pictures[4] = flat(0.3);
    pictures[5] = changed(&pictures[5], |grey| 1.0 - grey);
    pictures[6] = changed(&pictures[6], |grey| (3.0 * grey).min(1.0));
    pictures[7] = changed(&pictures[7], |grey| 0.5 + 0.05 * grey);
    pictures[8] = picture(41, 40, 8);
    let small = picture(16, 16, 9);
    let framed = |at: usize| match (at % 40, at / 40) {
        (x @ 4..20, y @ 4..20) => small.pixels()[(y - 4) * 16 + x - 4].max(0.1),
        _ => 0.0,
    };
    pictures[9] = Picture::new(40, 40, 1, (0..1600).map(framed).collect()).expect("a picture");
    let report = check_pictures(&pictures);
    for (kind, place) in [
        (Kind::Empty, "4.png"),
        (Kind::Inverted, "5.png"),
        (Kind::Saturated, "6.png"),
        (Kind::LowContrast, "7.png"),
        (Kind::OtherSize, "8.png"),
        (Kind::BlackBorder, "9.png"),
    ] {
        assert_eq!(places(&report, kind), [[place]], "{kind:?}\n{report}");
    }
    let size = &finding(&report, Kind::OtherSize).expect("one").first[0];
    assert_eq!(size.detail, "41 x 40 instead of 40 x 40");
}

#[test]
fn a_blurred_picture_stands_out_of_a_set_of_sharp_ones() {
    let mut pictures: Vec<Picture> = (0..60).map(|seed| picture(40, 40, seed)).collect();
    let source = pictures[11].clone();
    let blurred = (0..1600_usize).map(|at| {
        let (x, y) = (at % 40, at / 40);
        let around = (y.saturating_sub(2)..(y + 3).min(40))
            .flat_map(|y| (x.saturating_sub(2)..(x + 3).min(40)).map(move |x| y * 40 + x));
        let (sum, count) = around.fold((0.0, 0.0), |(sum, count), at| {
            (sum + source.pixels()[at], count + 1.0)
        });
        sum / count
    });
    pictures[11] = Picture::new(40, 40, 1, blurred.collect()).expect("a picture");
    assert_eq!(
        places(&check_pictures(&pictures), Kind::Blurred),
        [["11.png"]]
    );
}

#[test]
fn the_plan_decides_on_size_channels_and_bits_where_it_says_them() {
    let settings = Settings {
        size: Some((20, 20)),
        channels: Some(1),
        bits: Some(16),
        ..Settings::default()
    };
    let mut check = Check::new(settings);
    let (small, large) = (picture(20, 20, 1), picture(40, 40, 2));
    let colour = Picture::new(1, 1, 3, vec![0.1, 0.5, 0.9]).expect("a pixel");
    for (place, picture, bits) in [
        ("a", &small, Some(16)),
        ("b", &large, Some(16)),
        ("c", &small, Some(8)),
        ("d", &colour, None),
    ] {
        let content = Content::Picture { picture, bits };
        check.add(&Item {
            place,
            part: None,
            label: Some("x"),
            patient: None,
            content,
        });
    }
    let report = check.finish();
    assert_eq!(places(&report, Kind::OtherSize), [["b"], ["d"]]);
    assert_eq!(places(&report, Kind::OtherDepth), [["c"], ["d"]]);
    let cases = &finding(&report, Kind::OtherDepth).expect("two").first;
    assert_eq!(cases[0].detail, "8 bits instead of 16");
    assert_eq!(cases[1].detail, "3 channels instead of 1");
}

#[test]
fn patients_and_labels_are_looked_at_whatever_the_content_is() {
    let mut check = Check::new(Settings::default());
    for at in 0..100 {
        let (place, reason) = (format!("{at}"), "the file is empty");
        let (own, patient) = (format!("p{at}"), at < 30);
        check.add(&Item {
            place: &place,
            part: Some(if at == 99 { "test" } else { "train" }),
            label: match at {
                0 => None,
                1..=4 => Some("rare"),
                _ => Some("frequent"),
            },
            patient: Some(if patient {
                "many"
            } else if at > 97 {
                "both"
            } else {
                &own
            }),
            content: Content::Unreadable(reason),
        });
    }
    let report = check.finish();
    assert_eq!(places(&report, Kind::Unlabelled), [["0"]]);
    assert_eq!(places(&report, Kind::PatientInParts), [["98", "99"]]);
    let many = &finding(&report, Kind::ManyRecordsOfOnePatient)
        .expect("one")
        .first[0];
    assert_eq!((many.measure, many.places.len(), many.more), (30.0, 10, 20));
    let several = &finding(&report, Kind::PatientWithSeveralLabels)
        .expect("one")
        .first[0];
    assert_eq!(several.detail, "frequent, rare");
    let rare = &finding(&report, Kind::RareClass).expect("one").first[0];
    assert_eq!(rare.detail, "rare: 4 records");
    assert_eq!(
        finding(&report, Kind::Unreadable).map(|finding| finding.count),
        Some(100)
    );
    assert_eq!(report.patients, 70);
}

fn check_notes(texts: &[&str], settings: Settings) -> Report {
    let mut check = Check::new(settings);
    for (at, text) in texts.iter().enumerate() {
        let place = format!("line {at}");
        check.add(&Item {
            place: &place,
            part: None,
            label: Some("note"),
            patient: None,
            content: Content::Note(text),
        });
    }
    check.finish()
}

#[test]
fn notes_are_judged_by_their_words_and_none_of_them_is_repeated() {
    let long = (0..200).map(|at| format!("w{at} ")).collect::<String>();
    let nearly = long.replace("w100 ", "changed ");
    let settings = Settings {
        deidentifier: Some(Deidentifier::new(&Default::default()).expect("no lists")),
        most_words: 150,
        ..Settings::default()
    };
    let texts = [
        "Cough and fever for three days, no dyspnoea.",
        "cough and FEVER for three days - no dyspnoea",
        &long,
        &nearly,
        " -- ",
        "Secretword",
        "Fi\u{c3}\u{a8}vre depuis trois jours, toux s\u{c3}\u{a8}che",
        "Name: John Smith, DOB: 03/04/1961, Tel: 617-555-0134",
    ];
    let report = check_notes(&texts, settings);
    assert_eq!(places(&report, Kind::Copies), [["line 0", "line 1"]]);
    assert_eq!(places(&report, Kind::NearCopies), [["line 2", "line 3"]]);
    assert_eq!(places(&report, Kind::TooLong), [["line 2"], ["line 3"]]);
    assert_eq!(places(&report, Kind::Empty), [["line 4"]]);
    assert_eq!(places(&report, Kind::TooShort), [["line 5"]]);
    assert_eq!(places(&report, Kind::WrongEncoding), [["line 6"]]);
    assert_eq!(places(&report, Kind::OnlyIdentifiers), [["line 7"]]);
    let json = serde_json::to_string(&report).expect("a report");
    for content in ["Secretword", "dyspnoea", "Smith", "1961"] {
        assert!(!json.contains(content) && !report.to_string().contains(content));
    }
}

#[test]
fn tables_are_judged_by_column_and_none_of_their_cells_is_repeated() {
    let column = |name: &str, edges: &[f32]| TableColumn {
        name: name.into(),
        edges: edges.to_vec(),
    };
    let settings = Settings {
        columns: vec![
            column("age", &[20.0, 80.0]),
            column("sex", &[]),
            column("unit", &[]),
        ],
        ..Settings::default()
    };
    let mut check = Check::new(settings);
    let rows: [&[&str]; 6] = [
        &["63", "0", "1"],
        &["63", "0", "1"],
        &["?", "", "1"],
        &["41", "NA", "1"],
        &["777", "female", "1"],
        &["50", "1"],
    ];
    for (at, row) in rows.iter().enumerate() {
        let place = format!("line {at}");
        let cells: Vec<String> = row.iter().map(|&cell| cell.to_owned()).collect();
        let content = Content::Row(&cells);
        let label = Some(if at == 1 { "1" } else { "0" });
        check.add(&Item {
            place: &place,
            part: None,
            label,
            patient: None,
            content,
        });
    }
    let report = check.finish();
    assert_eq!(places(&report, Kind::Copies), [["line 0", "line 1"]]);
    assert!(finding(&report, Kind::CopiesWithOtherLabels).is_none());
    assert_eq!(places(&report, Kind::OtherLength), [["line 5"]]);
    assert_eq!(places(&report, Kind::NotNumeric), [["line 4"]]);
    assert_eq!(places(&report, Kind::OutOfRange), [["line 4"]]);
    let columns = |kind| -> Vec<&str> {
        let cases = &finding(&report, kind).expect("found").first;
        cases.iter().map(|case| case.detail.as_str()).collect()
    };
    assert_eq!(columns(Kind::MissingCells), ["sex", "age"]);
    assert_eq!(columns(Kind::ConstantColumn), ["unit"]);
    assert!(!report.to_string().contains("777") && !report.to_string().contains("female"));
}

#[test]
fn a_doubted_label_and_nothing_at_all_make_a_report_too() {
    let mut check = Check::new(Settings::default());
    check.doubt("7.png", "well", "ill", 0.02);
    let text = check.finish().to_string();
    assert!(
        text.contains("7.png (well, a model sees ill, probability of its label 0.020)"),
        "{text}"
    );
    let nothing = Check::new(Settings::default()).finish();
    assert_eq!(
        nothing.to_string(),
        "0 records of 0 patients\nnothing found\n"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_pictures_make_a_check_panic(
        sides in proptest::collection::vec((1_usize..90, 1_usize..90, any::<u64>(), 0_u8..4), 0..30),
    ) {
        let mut check = Check::new(Settings::default());
        for &(width, height, seed, form) in &sides {
            let mut random = Random::new(&[seed]);
            let channels = if form == 3 { 3 } else { 1 };
            let pixels = (0..width * height * channels).map(|_| match form {
                0 => (seed % 2) as f32,
                1 => f32::from(u8::from(random.coin())),
                _ => random.unit(),
            });
            let pixels = pixels.collect();
            let picture = Picture::new(width, height, channels, pixels).expect("a picture");
            let content = Content::Picture { picture: &picture, bits: None };
            check.add(&Item { place: "x", part: None, label: None, patient: Some("p"), content });
        }
        let report = check.finish();
        prop_assert_eq!(report.records, sides.len());
        for case in report.findings.iter().flat_map(|finding| &finding.first) {
            prop_assert!(case.measure.is_finite());
        }
        prop_assert!(report.findings.iter().all(|finding| finding.first.len() <= NAMED));
    }

    #[test]
    fn no_notes_make_a_check_panic(texts in proptest::collection::vec(".{0,80}", 0..12)) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let settings = Settings {
            deidentifier: Some(Deidentifier::new(&Default::default()).expect("no lists")),
            ..Settings::default()
        };
        prop_assert_eq!(check_notes(&texts, settings).records, texts.len());
    }

    #[test]
    fn no_cells_make_a_check_panic(
        rows in proptest::collection::vec(proptest::collection::vec(".{0,6}|nan|inf|-?[0-9]{1,40}", 0..4), 0..12),
        edges in proptest::collection::vec(proptest::num::f32::ANY, 0..4),
    ) {
        let columns = (0..2).map(|at| TableColumn { name: at.to_string(), edges: edges.clone() });
        let mut check = Check::new(Settings { columns: columns.collect(), ..Settings::default() });
        for row in &rows {
            let content = Content::Row(row);
            check.add(&Item { place: "x", part: None, label: None, patient: None, content });
        }
        prop_assert_eq!(check.finish().records, rows.len());
    }
}
