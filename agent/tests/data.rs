//! What a steward sees when registering data: good reports and clear refusals.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use consilium_agent::{
    data::{
        self, DataError, LabelColumns, LabelMap, LabelledSet, Part, PublicSize, RegisterError,
        Registration, Report, Source,
    },
    policy::Policy,
    store::Store,
};
use consilium_models::{network::Target, text::Example};
use consilium_privacy::seal::SealingKey;
use consilium_proto::{ErrorCode, Plan, plan::Task};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, RgbImage};
use npyz::WriterBuilder as _;

/// A folder with a store and whatever a test puts beside it.
struct Hospital {
    folder: tempfile::TempDir,
    store: Store,
}

impl Hospital {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let site = folder.path().join("site");
        fs::create_dir(&site).expect("room");
        let key = Arc::new(SealingKey::from_bytes([5; 32]));
        let store = Store::open(&site, key).await.expect("a store");
        Self { folder, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("room");
        fs::write(&path, bytes).expect("room");
        path
    }

    fn labelled(&self, patient: Option<&str>) -> Source {
        let columns = LabelColumns {
            patient: patient.map(str::to_owned),
            ..LabelColumns::default()
        };
        Source::Labelled {
            images: self.path("images"),
            labels: self.path("labels.csv"),
            columns,
        }
    }

    async fn register(&self, source: Source) -> Result<Report, RegisterError> {
        self.register_as(registration(source)).await
    }

    async fn register_as(&self, registration: Registration) -> Result<Report, RegisterError> {
        let policy = Policy::default();
        data::register(&self.store, &policy, registration, SystemTime::UNIX_EPOCH).await
    }

    async fn refusal(&self, source: Source) -> String {
        let error = self.register(source).await.expect_err("bad data");
        assert_eq!(error.code(), ErrorCode::Invalid, "{error}");
        let kept = self.store.data_sets().await.expect("readable");
        assert!(kept.is_empty(), "a refused data set leaves nothing behind");
        error.to_string()
    }
}

fn registration(source: Source) -> Registration {
    Registration {
        name: "chest".into(),
        source,
        label_map: None,
        public_size: PublicSize::Declared(100),
        skip_unreadable: false,
        pixels_seen: false,
        replace: false,
    }
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image
        .into()
        .write_to(&mut bytes, format)
        .expect("an encoder");
    bytes.into_inner()
}

fn png(grey: u8) -> Vec<u8> {
    encoded(GrayImage::from_pixel(8, 6, Luma([grey])), ImageFormat::Png)
}

/// A PNG whose header claims another size than its few bytes hold.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(1);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let mut sum = u32::MAX;
    for byte in &bytes[12..29] {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xEDB8_8320 * (sum & 1));
        }
    }
    bytes[29..33].copy_from_slice(&(!sum).to_be_bytes());
    bytes
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[tokio::test]
async fn a_registration_reports_what_it_read() {
    let hospital = Hospital::new().await;
    hospital.write("images/a.png", png(10));
    hospital.write("images/deep/b.PNG", png(10));
    hospital.write(
        "images/c.jpg",
        encoded(RgbImage::new(4, 4), ImageFormat::Jpeg),
    );
    let deep = image::ImageBuffer::<Luma<u16>, _>::from_pixel(8, 6, Luma([40_000]));
    hospital.write("images/d.png", encoded(deep, ImageFormat::Png));
    // As a spreadsheet program saves it.
    hospital.write(
        "labels.csv",
        "\u{FEFF}\"path\",\"label\",\"mrn\"\r\na.png,ill,007\r\n\"deep/b.PNG\",healthy,007\r\n\
         c.jpg,\"ill\",008\r\nd.png,ill,009\r\n",
    );
    let report = hospital
        .register(hospital.labelled(Some("mrn")))
        .await
        .expect("sound data");
    assert_eq!(
        (report.records, report.patients, report.public_size),
        (4, 3, 100)
    );
    assert_eq!(report.classes["ill"], 3);
    assert_eq!(report.sizes["8 x 6"], 3);
    assert_eq!(report.duplicates.len(), 1);
    assert!(
        report.duplicates[0]
            .iter()
            .any(|place| place.ends_with("a.png"))
    );
    assert!(report.names_patients && report.skipped.is_empty());
    let kept = &hospital.store.data_sets().await.expect("readable")[0];
    assert_eq!((kept.public_size, kept.patients, kept.records), (100, 3, 4));
    let database = fs::read(hospital.store.folder().join("agent.db")).expect("there");
    let wal = fs::read(hospital.store.folder().join("agent.db-wal")).unwrap_or_default();
    for secret in ["a.png", "healthy", "deep/b.PNG"] {
        let found = |bytes: &[u8]| {
            bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes())
        };
        assert!(
            !found(&database) && !found(&wal),
            "{secret} lies open on the disk"
        );
    }
}

#[tokio::test]
async fn without_a_patient_column_each_record_is_its_own_patient_and_the_report_says_so() {
    let hospital = Hospital::new().await;
    hospital.write("images/ill/1.png", png(1));
    hospital.write("images/healthy/2.png", png(2));
    let source = Source::ClassFolders {
        folder: hospital.path("images"),
    };
    let report = hospital.register(source).await.expect("sound data");
    assert_eq!((report.records, report.patients), (2, 2));
    assert_says(&report.to_string(), &["its own patient", "label ill: 1"]);
}

#[tokio::test]
async fn a_label_without_image_and_an_image_without_label_are_named() {
    let hospital = Hospital::new().await;
    hospital.write("images/a.png", png(1));
    hospital.write("images/left.png", png(2));
    hospital.write("labels.csv", "path,label\na.png,ill\ngone.png,ill\n");
    let message = hospital.refusal(hospital.labelled(None)).await;
    assert_says(&message, &["line 3", "gone.png", "label without image"]);
    assert_says(&message, &["left.png", "image without label"]);

    let mut skipping = registration(hospital.labelled(None));
    skipping.skip_unreadable = true;
    let report = hospital
        .register_as(skipping)
        .await
        .expect("skipped by name");
    assert_eq!((report.records, report.skipped.len()), (1, 2));
}

#[tokio::test]
async fn empty_corrupt_and_giant_images_are_named_before_they_do_harm() {
    let hospital = Hospital::new().await;
    hospital.write("images/ill/good.png", png(1));
    hospital.write("images/ill/empty.png", b"");
    let half = png(2);
    hospital.write("images/ill/half.png", &half[..half.len() / 2]);
    hospital.write("images/ill/giant.png", png_claiming(40_000, 40_000));
    hospital.write("images/ill/text.jpg", b"patient,label");
    let source = || Source::ClassFolders {
        folder: hospital.path("images"),
    };
    let message = hospital.refusal(source()).await;
    assert_says(
        &message,
        &["empty.png", "file is empty", "half.png", "damaged"],
    );
    assert_says(
        &message,
        &[
            "giant.png",
            "40000 x 40000",
            "text.jpg",
            "neither PNG nor JPEG",
        ],
    );

    let skipping = Registration {
        skip_unreadable: true,
        pixels_seen: false,
        ..registration(source())
    };
    let report = hospital
        .register_as(skipping)
        .await
        .expect("skipped by name");
    assert_eq!((report.records, report.skipped.len()), (1, 4));
}

#[tokio::test]
async fn nothing_usable_is_an_error_even_when_skipping() {
    let hospital = Hospital::new().await;
    hospital.write("images/ill/empty.png", b"");
    let source = || Source::ClassFolders {
        folder: hospital.path("images"),
    };
    let skipping = Registration {
        skip_unreadable: true,
        pixels_seen: false,
        ..registration(source())
    };
    let error = hospital
        .register_as(skipping)
        .await
        .expect_err("nothing is left");
    assert_says(&error.to_string(), &["no record"]);
    let missing = Source::ClassFolders {
        folder: hospital.path("nowhere"),
    };
    let error = hospital
        .register(missing)
        .await
        .expect_err("no such folder");
    assert_eq!(error.code(), ErrorCode::Missing);
    assert_says(&error.to_string(), &["nowhere"]);
}

#[tokio::test]
async fn a_wrong_column_is_named_with_those_that_are_there() {
    let hospital = Hospital::new().await;
    hospital.write("images/a.png", png(1));
    hospital.write("labels.csv", "file;diagnosis\r\na.png;ill\r\n");
    let message = hospital.refusal(hospital.labelled(None)).await;
    assert_says(
        &message,
        &["labels.csv", "\"path\"", "file;diagnosis", "commas"],
    );
    hospital.write("labels.csv", "path,label\na.png,ill\n");
    let message = hospital.refusal(hospital.labelled(Some("mrn"))).await;
    assert_says(&message, &["\"mrn\"", "path, label"]);
}

#[tokio::test]
async fn a_label_map_maps_every_label_or_names_the_one_it_does_not() {
    let hospital = Hospital::new().await;
    hospital.write("images/a.png", png(1));
    hospital.write("images/b.png", png(2));
    hospital.write("labels.csv", "path,label\na.png,J18.9\nb.png,Z00\n");
    let map = hospital.write("map.csv", "local,class\nJ18.9,pneumonia\n");
    let mut mapped = registration(hospital.labelled(None));
    mapped.label_map = Some(map.clone());
    let message = hospital
        .register_as(mapped.clone())
        .await
        .expect_err("unmapped")
        .to_string();
    assert_says(&message, &["labels.csv, line 3", "\"Z00\"", "map.csv"]);
    fs::write(map, "local,class\nJ18.9,pneumonia\nZ00,normal\n").expect("room");
    let report = hospital.register_as(mapped).await.expect("all mapped");
    assert_eq!(
        (report.classes["pneumonia"], report.classes["normal"]),
        (1, 1)
    );
}

#[tokio::test]
async fn names_and_sizes_have_rules() {
    let hospital = Hospital::new().await;
    hospital.write("images/ill/1.png", png(1));
    let source = Source::ClassFolders {
        folder: hospital.path("images"),
    };
    let good = registration(source);
    for name in ["", "a b", "../x", "ümlaut", &"x".repeat(101)] {
        let bad = Registration {
            name: name.into(),
            ..good.clone()
        };
        let error = hospital.register_as(bad).await.expect_err(name);
        assert!(matches!(error, RegisterError::Name(_)), "{error}");
    }
    let none = Registration {
        public_size: PublicSize::Declared(0),
        ..good.clone()
    };
    assert!(matches!(
        hospital.register_as(none).await,
        Err(RegisterError::NoSize)
    ));
    hospital
        .register_as(good.clone())
        .await
        .expect("sound data");
    let error = hospital.register_as(good.clone()).await.expect_err("taken");
    assert_eq!(error.code(), ErrorCode::Precondition);
    let replaced = Registration {
        replace: true,
        ..good
    };
    hospital
        .register_as(replaced)
        .await
        .expect("replaced by name");
}

#[tokio::test]
async fn a_noisy_size_is_charged_and_needs_a_budget() {
    let hospital = Hospital::new().await;
    for at in 0..40 {
        hospital.write(&format!("images/ill/{at}.png"), png(at));
    }
    let source = Source::ClassFolders {
        folder: hospital.path("images"),
    };
    let noisy = Registration {
        public_size: PublicSize::Noisy(2.0),
        ..registration(source)
    };
    let error = hospital
        .register_as(noisy.clone())
        .await
        .expect_err("no budget");
    assert!(matches!(error, RegisterError::NoBudget(_)), "{error}");
    let policy = hospital.write(
        "policy.toml",
        "[data_sets.chest]\nepsilon = 8.0\ndelta = 1e-5\n",
    );
    let policy = Policy::load(&policy).expect("a sound policy");
    let now = SystemTime::UNIX_EPOCH;
    let report = data::register(&hospital.store, &policy, noisy, now)
        .await
        .expect("paid for");
    // Discrete Laplace of scale 1/2: off by more than 25 with probability e^-50.
    assert!(
        report.public_size.abs_diff(40) < 25,
        "{}",
        report.public_size
    );
    let entries = hospital.store.ledger_entries().await.expect("it verifies");
    let [_budget, charge] = &entries[..] else {
        panic!("not a budget and a charge: {entries:?}");
    };
    let charged = charge.fact.charged().expect("a charge");
    assert_eq!(charged.data_set, "chest");
}

#[tokio::test]
async fn a_label_balance_is_charged_each_time_counts_patients_and_needs_a_budget() {
    let hospital = Hospital::new().await;
    // 60 patients with two records each: 40 ill, 20 with one record of either label, of whom the
    // class named first counts; one patient with a label of no class.
    let mut rows = "age,who,state\n7,odd,secret\n".to_owned();
    for patient in 0..60 {
        let second = if patient < 40 { "ill" } else { "healthy" };
        rows += &format!("40,p{patient},ill\n41,p{patient},{second}\n");
    }
    let source = Source::Table {
        file: hospital.write("rows.csv", rows),
        target: "state".into(),
        patient: Some("who".into()),
    };
    hospital.register(source).await.expect("sound data");
    let classes = ["healthy", "ill"].map(str::to_owned);
    let policy = hospital.write(
        "policy.toml",
        "[data_sets.chest]\nepsilon = 8.0\ndelta = 1e-5\n",
    );
    let policy = Policy::load(&policy).expect("a sound policy");
    let now = SystemTime::UNIX_EPOCH;
    let ask = async |policy: &Policy, name: &str, classes: &[String], epsilon| {
        data::release_labels(&hospital.store, policy, name, classes, epsilon, now).await
    };

    let balance = ask(&policy, "chest", &classes, 2.0)
        .await
        .expect("paid for");
    let counts: Vec<_> = balance.classes.iter().map(|class| class.count).collect();
    // Discrete Laplace of scale 1/2: off by more than 15 with probability e^-30.
    for (found, expected) in counts.iter().chain([&balance.others]).zip([20, 40, 1]) {
        assert!(found.abs_diff(expected) < 15, "{balance:?}");
    }
    assert!(
        balance.names_patients && (balance.deviation - 0.6017).abs() < 1e-4,
        "{balance:?}"
    );
    let shares: f64 = balance.classes.iter().filter_map(|class| class.share).sum();
    assert!((0.5..=1.0).contains(&shares), "{balance:?}");
    let again = ask(&policy, "chest", &classes, 2.0)
        .await
        .expect("paid for");
    assert!(again.ledger_entry > balance.ledger_entry, "another charge");

    let error = ask(&policy, "chest", &classes, 7.0)
        .await
        .expect_err("spent");
    assert_eq!(error.code(), ErrorCode::Exhausted, "{error}");
    let charges = hospital.store.ledger_entries().await.expect("it verifies");
    let charges = charges.iter().filter_map(|entry| entry.fact.charged());
    assert_eq!(charges.count(), 2, "what is refused is not charged");

    let refused = [
        (
            ask(&Policy::default(), "chest", &classes, 1.0).await,
            ErrorCode::Precondition,
        ),
        (
            ask(&policy, "lungs", &classes, 1.0).await,
            ErrorCode::Missing,
        ),
        (ask(&policy, "chest", &[], 1.0).await, ErrorCode::Invalid),
        (
            ask(&policy, "chest", &["ill".into(), "ill".into()], 1.0).await,
            ErrorCode::Invalid,
        ),
        (
            ask(&policy, "chest", &classes, f64::NAN).await,
            ErrorCode::Invalid,
        ),
    ];
    for (result, code) in refused {
        let error = result.expect_err("refused");
        assert_eq!(error.code(), code, "{error}");
    }
}

fn npz(path: &Path, images: &[u8], shape: &[u64], labels: &[u8]) {
    let mut archive = npyz::npz::NpzWriter::create(path).expect("room");
    let mut write = |name: &str, shape: &[u64], bytes: &[u8]| {
        let mut array = archive
            .array::<u8>(name, Default::default())
            .expect("room")
            .default_dtype()
            .shape(shape)
            .begin_nd()
            .expect("a sound shape");
        array.extend(bytes.iter().copied()).expect("room");
        array.finish().expect("as many as the shape says");
    };
    write("train_images", shape, images);
    write("train_labels", &[labels.len() as u64, 1], labels);
}

fn from_npz(file: PathBuf, indexes: Option<Vec<usize>>) -> Source {
    Source::Npz {
        file,
        part: Part::Train,
        indexes,
    }
}

fn image_plan() -> Plan {
    let text = r#"
        name = "chest"
        task = "image-classification"
        data_set = "chest"
        classes = ["normal", "pneumonia"]
        rounds = 1
        cohort = { size = 3 }
        image = { width = 8, height = 8, mean = 0.0, deviation = 1.0 }
        network = { name = "resnet-gn" }
        training = { steps = 1, batch_size = 8, learning_rate = 0.1 }
        privacy = { mode = "none" }
    "#;
    Plan::from_toml(text).expect("a sound plan")
}

fn regression_plan() -> Plan {
    let mut plan = image_plan();
    plan.task = Task::ImageRegression;
    plan.classes.clear();
    plan
}

/// What every record is read as.
fn examples(set: &LabelledSet, plan: &Plan) -> Vec<Example> {
    let examples = set.examples(plan, None).expect("data of the plan's kind");
    examples
        .flat_map(|examples| examples.expect("readable"))
        .collect()
}

#[tokio::test]
async fn the_npz_of_medmnist_is_read_whole_or_in_part() {
    let hospital = Hospital::new().await;
    let file = hospital.path("public.npz");
    let images: Vec<u8> = [0, 51, 255].iter().flat_map(|&grey| [grey; 64]).collect();
    npz(&file, &images, &[3, 8, 8], &[0, 1, 1]);
    let report = hospital
        .register(from_npz(file.clone(), None))
        .await
        .expect("sound data");
    assert_eq!(
        (report.records, report.classes["1"], report.sizes["8 x 8"]),
        (3, 2, 3)
    );

    let plan = image_plan();
    let source = from_npz(file.clone(), Some(vec![2, 1]));
    let set = data::read(&source, &plan.classes, None).expect("sound data");
    let examples = examples(&set, &plan);
    let grey = |at: usize| examples[at].input[0];
    assert_eq!((grey(0), grey(1)), (1.0, 0.2));
    assert!(
        examples
            .iter()
            .all(|example| example.target == Target::Class(1))
    );

    let message = |source| {
        data::read(&source, &plan.classes, None)
            .expect_err("bad")
            .to_string()
    };
    assert_says(
        &message(from_npz(file.clone(), Some(vec![3]))),
        &["image 3", "has 3"],
    );
    let val = Source::Npz {
        file: file.clone(),
        part: Part::Val,
        indexes: None,
    };
    assert_says(&message(val), &["val_images is missing", "train_images"]);
    npz(&file, &images, &[3, 8, 8], &[0, 1]);
    assert_says(&message(from_npz(file.clone(), None)), &["one label each"]);
    npz(&file, &images, &[3, 64], &[0, 1, 1]);
    assert_says(&message(from_npz(file.clone(), None)), &["N x H x W"]);
    npz(&file, &images, &[3, 8, 8], &[0, 1, 7]);
    assert_says(
        &message(from_npz(file.clone(), None)),
        &["image 2", "\"7\"", "normal, pneumonia"],
    );
    fs::write(&file, b"PK but no more").expect("room");
    assert_says(
        &message(from_npz(file, None)),
        &["public.npz", "no npz file"],
    );
}

#[tokio::test]
async fn colour_images_of_an_npz_are_three_channels_deep() {
    let hospital = Hospital::new().await;
    let file = hospital.path("public.npz");
    let images: Vec<u8> = [[255, 0, 0]; 64].concat();
    npz(&file, &images, &[1, 8, 8, 3], &[0]);
    let mut plan = image_plan();
    let set = data::read(&from_npz(file, None), &plan.classes, None).expect("sound data");
    if let Some(image) = &mut plan.image {
        image.channels = 3;
    }
    let input = &examples(&set, &plan)[0].input;
    assert_eq!((input[0], input[64], input[128]), (1.0, 0.0, 0.0));
}

const HEART: &str = "row,age,chol,num\r\n0,63.0,?,0\r\n1,41,204,3\r\n2,,.5,1\r\n";

fn table(file: PathBuf) -> Source {
    Source::Table {
        file,
        target: "num".into(),
        patient: None,
    }
}

fn table_plan() -> Plan {
    let text = r#"
        name = "heart"
        task = "tabular-classification"
        data_set = "heart"
        classes = ["healthy", "ill"]
        rounds = 1
        cohort = { size = 3 }
        table = { columns = [{ name = "chol", missing = -1.0 }, { name = "age" }] }
        network = { name = "dense", hidden = [4] }
        training = { steps = 1, batch_size = 8, learning_rate = 0.1 }
        privacy = { mode = "none" }
    "#;
    Plan::from_toml(text).expect("a sound plan")
}

#[tokio::test]
async fn a_table_is_read_by_its_header() {
    let hospital = Hospital::new().await;
    let file = hospital.write("heart.csv", HEART);
    let map = hospital.write(
        "map.csv",
        "local,class\n0,healthy\n1,ill\n2,ill\n3,ill\n4,ill\n",
    );
    let mut registration = registration(table(file.clone()));
    registration.label_map = Some(map.clone());
    let report = hospital
        .register_as(registration)
        .await
        .expect("sound data");
    assert_eq!((report.records, report.classes["ill"]), (3, 2));
    let missing: Vec<_> = report
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.missing))
        .collect();
    assert_eq!(missing, [("row", 0), ("age", 1), ("chol", 1)]);
    assert_says(&report.to_string(), &["its own patient"]);

    let (plan, map) = (table_plan(), LabelMap::read(&map).expect("a sound map"));
    let set = data::read(&table(file.clone()), &plan.classes, Some(&map)).expect("sound data");
    let inputs: Vec<_> = examples(&set, &plan)
        .into_iter()
        .map(|example| example.input)
        .collect();
    assert_eq!(inputs, [[-1.0, 63.0], [204.0, 41.0], [0.5, 0.0]]);

    let unmapped = data::read(&table(file), &plan.classes, None).expect_err("no such class");
    assert_says(&unmapped.to_string(), &["line 2", "\"0\"", "healthy, ill"]);
}

#[tokio::test]
async fn numbers_that_are_none_are_refused_where_they_stand() {
    let hospital = Hospital::new().await;
    let plan = table_plan();
    let first_error = |text: &str| {
        let file = hospital.write("heart.csv", text);
        let source = Source::Table {
            file,
            target: "num".into(),
            patient: None,
        };
        let set = data::read(&source, &plan.classes, None).expect("its labels are classes");
        let mut examples = set.examples(&plan, None).expect("a table");
        let error = examples.find_map(Result::err);
        error.expect("no number").to_string()
    };
    let message = first_error("age,chol,num\n1,2,ill\n3,inf,ill\n");
    assert_says(&message, &["line 3", "\"chol\""]);
    let message = first_error("age,chol,num\nSmith,2,ill\n");
    assert_says(&message, &["line 2", "\"age\""]);
    assert!(
        !message.contains("Smith"),
        "a cell is patient data: {message}"
    );

    // A label that should be a number: regression has no classes.
    let file = hospital.write("labels.csv", "path,label\na.png,1.5\nb.png,NaN\n");
    hospital.write("images/a.png", png(1));
    hospital.write("images/b.png", png(2));
    let error = data::read(&hospital.labelled(None), &[], None).expect_err("not a number");
    assert!(matches!(error, DataError::NoNumber { .. }), "{error}");
    assert_says(&error.to_string(), &["line 3", "finite"]);
    fs::write(file, "path,label\na.png,1.5\nb.png,2\n").expect("room");
    let set = data::read(&hospital.labelled(None), &[], None).expect("numbers");
    let targets: Vec<_> = examples(&set, &regression_plan())
        .into_iter()
        .map(|example| example.target)
        .collect();
    assert!(targets == [Target::Value(1.5), Target::Value(2.0)]);
}

#[test]
fn a_folder_of_parts_a_folder_of_classes_and_a_file_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    fs::create_dir_all(path.join("test/normal")).expect("room");
    fs::write(path.join("x.npz"), b"").expect("room");
    let folders = |folder: PathBuf| Source::ClassFolders { folder };
    assert_eq!(Source::detect(path, Part::Test), folders(path.join("test")));
    assert_eq!(
        Source::detect(&path.join("test"), Part::Test),
        folders(path.join("test"))
    );
    assert!(matches!(
        Source::detect(&path.join("x.npz"), Part::Val),
        Source::Npz {
            part: Part::Val,
            ..
        }
    ));
}

/// The four real hospitals, where they are at hand.
#[tokio::test]
async fn four_real_hospitals_register_their_tables() {
    let shared =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/heart_disease_4hospitals");
    if !shared.is_dir() {
        println!("skipped: {} is not here", shared.display());
        return;
    }
    for (file, records, ill) in [
        ("cleveland", 242, 111),
        ("hungarian", 235, 85),
        ("switzerland", 98, 92),
        ("va_long_beach", 160, 119),
    ] {
        let hospital = Hospital::new().await;
        let map = hospital.write(
            "map.csv",
            "local,class\n0,healthy\n1,ill\n2,ill\n3,ill\n4,ill\n",
        );
        // A copy: registering leaves a lease beside the records.
        let rows = fs::read(shared.join(format!("{file}.csv"))).expect("readable");
        let mut registration = registration(table(hospital.write("rows.csv", rows)));
        registration.label_map = Some(map);
        let report = hospital
            .register_as(registration)
            .await
            .expect("sound data");
        assert_eq!(
            (report.records, report.classes["ill"]),
            (records, ill),
            "{file}"
        );
    }
}

#[tokio::test]
async fn records_have_one_ledger_even_if_two_agents_look_at_them() {
    let (first, second) = (Hospital::new().await, Hospital::new().await);
    let table = first.write("rows.csv", "age,state\n40,ill\n50,healthy\n");
    first.write("folders/ill/1.png", png(1));
    let sources = [
        Source::Table {
            file: table,
            target: "state".into(),
            patient: None,
        },
        Source::ClassFolders {
            folder: first.path("folders"),
        },
    ];
    for source in sources {
        let mut own = registration(source.clone());
        own.replace = true;
        let report = first.register_as(own.clone()).await.expect("sound data");
        assert_eq!(report.unleased, None);
        first.register_as(own).await.expect("its own lease");
        let error = second.register(source).await.expect_err("another ledger");
        assert_eq!(error.code(), ErrorCode::Precondition, "{error}");
        let held = format!("{:?}", first.store.ledger_public_key());
        let text = error.to_string();
        for part in [&held[..], "move that agent's whole folder", "spent twice"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(second.store.data_sets().await.expect("readable").is_empty());
    }
}

#[tokio::test]
async fn where_no_lease_can_be_written_the_report_says_so() {
    let hospital = Hospital::new().await;
    // A name so long that no file can be made beside it: as in a folder that may only be read,
    // and also for whoever may write anywhere.
    let name = format!("{}.csv", "x".repeat(248));
    let file = hospital.write(&name, "age,state\n40,ill\n");
    let source = Source::Table {
        file,
        target: "state".into(),
        patient: None,
    };
    let report = hospital.register(source).await.expect("sound data");
    let reason = report.unleased.as_deref().expect("no lease");
    assert!(reason.contains("cannot be written"), "{reason}");
    assert!(report.to_string().contains("no lease: "), "{report}");
}
