//! Small records of every kind that the example plans ask for.

use std::{fmt::Write as _, fs, path::Path};

use consilium_agent::data::{LabelColumns, Source};
use consilium_proto::{Plan, plan::Task};

use crate::harness::SiteRecords;

/// Records that fit a plan: 12 patients, drawn from a fixed pattern.
pub(crate) fn of(plan: &Plan, folder: &Path) -> SiteRecords {
    fs::create_dir_all(folder).expect("a new folder");
    let source = match plan.task {
        Task::TabularClassification => table(plan, folder),
        Task::ImageClassification | Task::ImageRegression => images(plan, folder),
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

fn table(plan: &Plan, folder: &Path) -> Source {
    let columns = &plan.table.as_ref().expect("a tabular task").columns;
    let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    let mut text = format!("{},outcome\n", names.join(","));
    for number in 0..12 {
        for column in 0..names.len() {
            write!(text, "{},", (number * 5 + column * 3) % 17).expect("a string takes a line");
        }
        let class = number % plan.classes.len();
        writeln!(text, "{}", plan.classes[class]).expect("a string takes a line");
    }
    let file = folder.join("table.csv");
    fs::write(&file, text).expect("a written file");
    Source::Table {
        file,
        target: "outcome".into(),
        patient: None,
    }
}
