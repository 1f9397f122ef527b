//! Small records of every kind that the example plans ask for.

use std::{fmt::Write as _, fs, path::Path};

use consilium_agent::data::{Fields, LabelColumns, Source};
use consilium_proto::{Plan, plan::Task};
use serde_json::json;

use crate::harness::SiteRecords;

/// Records that fit a plan: 12 patients, drawn from a fixed pattern.
pub(crate) fn of(plan: &Plan, folder: &Path) -> SiteRecords {
    of_all(&[plan], folder)
}

/// Records that fit all of some plans about one data set.
pub(crate) fn of_all(plans: &[&Plan], folder: &Path) -> SiteRecords {
    fs::create_dir_all(folder).expect("a new folder");
    let plan = plans.first().expect("a plan");
    let source = if plan.image.is_some() {
        images(plan, folder)
    } else if plan.text.is_some() {
        notes(plans, folder)
    } else {
        table(plans, folder)
    };
    SiteRecords {
        name: plan.data_set.clone(),
        source,
        public_size: 12,
        label_map: None,
    }
}

fn images(plan: &Plan, folder: &Path) -> Source {
    let input = plan.image.as_ref().expect("an image task");
    let (width, height) = (input.width as u32, input.height as u32);
    let mut labels = "path,label,patient\n".to_owned();
    for number in 0..12_u32 {
        let class = number as usize % plan.classes.len().max(1);
        let label = plan
            .classes
            .get(class)
            .cloned()
            .unwrap_or_else(|| format!("{number}.5"));
        let shade = |x: u32, y: u32| ((x * (class as u32 + 1) + y * 3 + number * 7) % 256) as u8;
        let picture = image::GrayImage::from_fn(width, height, |x, y| image::Luma([shade(x, y)]));
        let name = format!("{number}.png");
        picture.save(folder.join(&name)).expect("a written picture");
        writeln!(labels, "{name},{label},patient {number}").expect("a string takes a line");
    }
    let file = folder.join("labels.csv");
    fs::write(&file, labels).expect("a written file");
    let columns = LabelColumns {
        patient: Some("patient".into()),
        ..LabelColumns::default()
    };
    Source::Labelled {
        images: folder.to_owned(),
        labels: file,
        columns,
    }
}

fn table(plans: &[&Plan], folder: &Path) -> Source {
    let mut names = Vec::new();
    for plan in plans {
        let columns = &plan.table.as_ref().expect("a task about a table").columns;
        names.extend(columns.iter().map(|column| column.name.as_str()));
    }
    names.sort_unstable();
    names.dedup();
    let mut text = format!("{},outcome\n", names.join(","));
    for number in 0..12 {
        for column in 0..names.len() {
            write!(text, "{},", (number * 5 + column * 3) % 17).expect("a string takes a line");
        }
        let classes = &plans[0].classes;
        writeln!(text, "\"{}\"", classes[number % classes.len()]).expect("a string takes a line");
    }
    let file = folder.join("table.csv");
    fs::write(&file, text).expect("a written file");
    Source::Table {
        file,
        target: "outcome".into(),
        patient: None,
    }
}

/// Notes with a mention of each kind that the plans look for, and a relation in every third.
fn notes(plans: &[&Plan], folder: &Path) -> Source {
    let mut kinds: Vec<&str> = Vec::new();
    let (mut labels, mut relations): (&[String], &[String]) = (&[], &[]);
    for plan in plans {
        match (plan.task, &plan.pair) {
            (Task::EntityTagging, _) => kinds.extend(plan.classes.iter().map(String::as_str)),
            (_, Some(pair)) => {
                kinds.extend([pair.from.as_str(), pair.to.as_str()]);
                relations = &plan.classes[1..];
            }
            (_, None) => labels = &plan.classes,
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    let mut lines = String::new();
    for number in 0..12_usize {
        let mut text = format!("Note {number} begins.");
        let mut entities = Vec::new();
        for (at, kind) in kinds.iter().enumerate() {
            text += " Then ";
            let start = text.len();
            write!(text, "thing{} number{at}", number % 4).expect("a string takes a word");
            entities.push(json!({ "start": start, "end": text.len(), "kind": kind }));
            text += ".";
        }
        let mut line = json!({
            "id": format!("note {number}"),
            "patient": format!("patient {number}"),
            "text": text,
            "entities": entities,
        });
        if !labels.is_empty() {
            line["label"] = json!(labels[number % labels.len()]);
        }
        if let (Some(kind), 0) = (relations.first(), number % 3) {
            line["relations"] = json!([{ "kind": kind, "from": 0, "to": 1 }]);
        }
        writeln!(lines, "{line}").expect("a string takes a line");
    }
    let file = folder.join("notes.jsonl");
    fs::write(&file, lines).expect("a written file");
    Source::Notes {
        path: file,
        annotations: None,
        fields: Fields {
            patient: Some("patient".into()),
            ..Fields::default()
        },
        is_deidentified: false,
    }
}
