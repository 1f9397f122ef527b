//! Released models at a hospital: what they say of pictures (DICOM among them), how far they are trusted, and
//! what becomes of files that lie.

use std::{
    fs,
    path::{Path, PathBuf},
};

use consilium_models::network::{Network, Target};
use consilium_proto::Plan;
use image::GrayImage;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;

use crate::program::{fail, run, succeed, text};

const PLAN: &str = r#"
    name = "squares"
    task = "image-classification"
    data_set = "squares"
    classes = ["dark", "light"]
    rounds = 1
    cohort = { size = 3 }
    image = { width = 28, height = 28 }
    network = { name = "cnn-small" }
    training = { steps = 1, batch_size = 10, learning_rate = 0.1 }
    privacy = { clipping_norm = 1.0, epsilon = 8.0, delta = 1e-3 }
"#;

/// Pixels of a picture: nearly even, dark or light, each one a little different.
pub(crate) fn pixels(at: usize) -> Vec<u8> {
    let level = [60, 190][at % 2];
    (0..28 * 28)
        .map(|place| level + ((place * 31 + at * 17) % 23) as u8)
        .collect()
}

fn class(at: usize) -> &'static str {
    ["dark", "light"][at % 2]
}

/// A hospital with a model, labelled pictures that it has not seen, and the files of the model.
struct Hospital {
    folder: tempfile::TempDir,
}

impl Hospital {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hospital = Self { folder };
        for at in 0..60 {
            let file = hospital.path(&format!("pictures/val/{}/{at:02}.png", class(at)));
            fs::create_dir_all(file.parent().expect("a parent")).expect("room");
            let picture = GrayImage::from_raw(28, 28, pixels(at)).expect("a picture");
            picture.save(&file).expect("a file");
        }
        fs::write(hospital.path("plan.toml"), PLAN).expect("a file");
        fs::write(hospital.path("model.safetensors"), trained()).expect("a file");
        hospital
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self) -> [String; 4] {
        let (plan, weights) = (self.path("plan.toml"), self.path("model.safetensors"));
        ["--plan", text(&plan), "--weights", text(&weights)].map(str::to_owned)
    }

    /// A command about the model, with further arguments.
    fn with_model<'a>(&'a self, model: &'a [String; 4], command: &[&'a str]) -> Vec<&'a str> {
        let model = model.iter().map(String::as_str);
        command.iter().copied().chain(model).collect()
    }
}

/// The file of weights that some steps of plain descent make.
fn trained() -> Vec<u8> {
    let plan = Plan::from_toml(PLAN).expect("a sound plan");
    let network = Network::from_plan(&plan).expect("a network");
    let mut weights = network.initial(plan.seed).into_vec();
    let image = plan.image.as_ref().expect("a plan about pictures");
    for step in 0..40 {
        let mut batch = network.batch();
        for at in 10 * step..10 * step + 10 {
            let scaled = |&pixel: &u8| (f32::from(pixel) / 255.0 - image.mean) / image.deviation;
            let input: Vec<f32> = pixels(at).iter().map(scaled).collect();
            batch.push(&input, Target::Class(at % 2)).expect("its size");
        }
        let mut gradient = vec![0.0; weights.len()];
        let ready = network.weights(&weights).expect("its own");
        network
            .add_gradient(&ready, &batch, &mut gradient)
            .expect("a gradient");
        for (weight, gradient) in weights.iter_mut().zip(gradient) {
            *weight -= 0.01 * gradient;
        }
    }
    let views: Vec<_> = network
        .layout()
        .ranges()
        .map(|(tensor, range)| {
            let bytes: Vec<u8> = weights[range]
                .iter()
                .flat_map(|w| w.to_le_bytes())
                .collect();
            (tensor.name.clone(), tensor.shape.clone(), bytes)
        })
        .collect();
    let views = views.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor");
        (name, view)
    });
    safetensors::serialize(views, None).expect("a file")
}

/// A DICOM file in Explicit VR Little Endian with one grey picture of 28 × 28 pixels of 8 bits.
pub(crate) fn dicom(pixels: &[u8], patient: &str, modality: &str, sop_class: &str) -> Vec<u8> {
    let instance = format!("1.2.3.{}", patient.bytes().map(u64::from).sum::<u64>());
    let mut meta = Vec::new();
    put(&mut meta, [2, 1], "OB", &[0, 1]);
    put(&mut meta, [2, 2], "UI", sop_class.as_bytes());
    put(&mut meta, [2, 3], "UI", instance.as_bytes());
    put(&mut meta, [2, 0x10], "UI", b"1.2.840.10008.1.2.1");
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    put(&mut file, [2, 0], "UL", &(meta.len() as u32).to_le_bytes());
    file.extend(meta);
    put(&mut file, [8, 0x16], "UI", sop_class.as_bytes());
    put(&mut file, [8, 0x18], "UI", instance.as_bytes());
    put(&mut file, [8, 0x60], "CS", modality.as_bytes());
    put(&mut file, [0x10, 0x10], "PN", b"Quartermain^Zebulon");
    put(&mut file, [0x10, 0x20], "LO", patient.as_bytes());
    put(&mut file, [0x20, 0x0D], "UI", b"1.2.3.4");
    put(&mut file, [0x28, 2], "US", &[1, 0]);
    put(&mut file, [0x28, 4], "CS", b"MONOCHROME2");
    for (element, number) in [
        (0x10, 28),
        (0x11, 28),
        (0x100, 8),
        (0x101, 8),
        (0x102, 7),
        (0x103, 0),
    ] {
        put(&mut file, [0x28, element], "US", &[number, 0]);
    }
    put(&mut file, [0x7FE0, 0x10], "OB", pixels);
    file
}

/// One element, its value padded to an even length.
fn put(to: &mut Vec<u8>, [group, element]: [u16; 2], vr: &str, value: &[u8]) {
    to.extend(group.to_le_bytes());
    to.extend(element.to_le_bytes());
    to.extend(vr.as_bytes());
    let padding = value.len() % 2;
    let length = value.len() + padding;
    match vr {
        "OB" => {
            to.extend([0, 0]);
            to.extend((length as u32).to_le_bytes());
        }
        _ => to.extend((length as u16).to_le_bytes()),
    }
    to.extend(value);
    let filler = if ["UI", "OB"].contains(&vr) { 0 } else { b' ' };
    to.extend(std::iter::repeat_n(filler, padding));
}

pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const ULTRASOUND: &str = "1.2.840.10008.5.1.4.1.1.6.1";

fn objects(printed: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).expect("an object a line");
    printed.lines().map(parse).collect()
}

#[test]
fn a_folder_of_pictures_is_judged_explained_and_listed() {
    let hospital = Hospital::new();
    let model = hospital.model();
    let (data, known) = (hospital.path("pictures"), hospital.path("known.json"));
    let calibrate = [
        "model",
        "calibrate",
        "--data",
        text(&data),
        "--out",
        text(&known),
        "--json",
    ];
    let learnt = succeed(&hospital.with_model(&model, &calibrate));
    assert_eq!(objects(&learnt)[0]["records"], 60);

    let (folder, maps, table) = (
        data.join("val"),
        hospital.path("maps"),
        hospital.path("all.csv"),
    );
    let predict = [
        "predict",
        "image",
        text(&folder),
        "--calibration",
        text(&known),
        "--json",
        "--csv",
        text(&table),
        "--explain",
        text(&maps),
    ];
    let said = objects(&succeed(&hospital.with_model(&model, &predict)));
    assert_eq!(said.len(), 60);
    for said in &said {
        let file = said["file"].as_str().expect("a path");
        let class = if file.contains("/dark/") {
            "dark"
        } else {
            "light"
        };
        assert_eq!(said["classes"][0]["class"], class, "{said}");
        assert_eq!(said["is_calibrated"], true);
        assert_eq!(said["model"]["epsilon"], 8.0);
        let map = said["explanation"]["grad_cam"]["file"]
            .as_str()
            .expect("a path");
        assert!(Path::new(map).is_file());
    }
    let mut rows = csv::Reader::from_path(&table).expect("a table");
    assert_eq!(rows.records().count(), 60);

    // Neither for another model, nor twice as many classes.
    let other = fs::read_to_string(&known)
        .expect("a file")
        .replace("\"model_sha256\": \"", "\"model_sha256\": \"0");
    fs::write(&known, other).expect("a file");
    assert!(fail(&hospital.with_model(&model, &predict), 6).contains("is of the model 0"));
}

#[test]
fn a_dicom_object_goes_the_road_of_a_png_and_one_that_lies_stops_nothing() {
    let hospital = Hospital::new();
    let model = hospital.model();
    let folder = hospital.path("archive");
    fs::create_dir(&folder).expect("a folder");
    for at in 0..2 {
        let bytes = dicom(&pixels(at), &format!("P{at}"), "CT", CT);
        fs::write(folder.join(format!("{at}.dcm")), bytes).expect("a file");
    }
    // Declares an element of 3 GB.
    let mut bomb = dicom(&pixels(0), "P2", "CT", CT);
    let length = bomb.len() - 28 * 28 - 4;
    bomb[length..length + 4].copy_from_slice(&3_000_000_000_u32.to_le_bytes());
    fs::write(folder.join("bomb.dcm"), bomb).expect("a file");

    let predict = ["predict", "image", text(&folder), "--json"];
    let output = run(&hospital.with_model(&model, &predict));
    let said = objects(std::str::from_utf8(&output.stdout).expect("UTF-8"));
    let classes: Vec<&Value> = said
        .iter()
        .map(|said| &said["classes"][0]["class"])
        .collect();
    assert_eq!(classes, ["dark", "light"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("bomb.dcm") && errors.contains("1 of 3 files"),
        "{errors}"
    );
    assert!(!output.status.success() && !errors.contains("Quartermain"));

    let reports = hospital.path("reports");
    let picture = folder.join("0.dcm");
    let predict = [
        "predict",
        "image",
        text(&picture),
        "--json",
        "--fhir",
        text(&reports),
    ];
    let said = objects(&succeed(&hospital.with_model(&model, &predict)));
    let file = said[0]["report"].as_str().expect("a path");
    let bundle: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    let entries = bundle["entry"].as_array().expect("entries");
    let report = entries.iter().map(|entry| &entry["resource"]);
    let mut report = report.filter(|it| it["resourceType"] == "DiagnosticReport");
    let report = report.next().expect("a report");
    assert_eq!(report["status"], "preliminary");
    assert_eq!(report["subject"]["identifier"]["value"], "P0");
    // A file that does not say whose it is gives no report.
    let png = hospital.path("pictures/val/dark/00.png");
    let predict = ["predict", "image", text(&png), "--fhir", text(&reports)];
    let said = fail(&hospital.with_model(&model, &predict), 3);
    assert!(said.contains("does not say whose picture it is"), "{said}");

    let checked = objects(&succeed(&["dicom", "check", text(&folder), "--json"]));
    let verdicts: Vec<&Value> = checked.iter().map(|it| &it["verdict"]).collect();
    assert_eq!(verdicts, ["readable", "readable", "refused"]);
}

#[test]
fn objects_leave_without_their_patients_and_doubtful_ones_do_not_leave() {
    let folder = tempfile::tempdir().expect("a folder");
    let (archive, out) = (folder.path().join("archive"), folder.path().join("out"));
    fs::create_dir(&archive).expect("a folder");
    fs::write(archive.join("ct.dcm"), dicom(&pixels(1), "P1", "CT", CT)).expect("a file");
    fs::write(
        archive.join("us.dcm"),
        dicom(&pixels(1), "P2", "US", ULTRASOUND),
    )
    .expect("a file");
    let command = ["dicom", "deidentify", text(&archive), "--out", text(&out)];
    let said = fail(&command, 6);
    assert!(
        said.contains("us.dcm") && said.contains("--pixels-seen"),
        "{said}"
    );
    let written = |out: &Path| -> Vec<Vec<u8>> {
        let files = fs::read_dir(out).expect("a folder");
        files
            .map(|file| fs::read(file.expect("one").path()).expect("a file"))
            .collect()
    };
    let holds = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|part| part == what);
    let files = written(&out);
    assert_eq!(files.len(), 1);
    assert!(!holds(&files[0], b"Quartermain") && !holds(&files[0], b"1.2.3.4\0"));
    assert!(holds(&files[0], &pixels(1)), "pixels stay as they are");
    let seen = [&command[..], &["--pixels-seen", "--for-training"]].concat();
    succeed(&seen);
    assert_eq!(written(&out).len(), 3);
}
