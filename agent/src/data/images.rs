//! Images in folders: those a CSV labels, and those whose folder is their label.

use std::{
    collections::HashSet,
    path::{Component, Path, PathBuf},
};

use super::{
    DataError, Fault, Found, Place,
    picture_file::ENDINGS,
    records::{Content, Record},
    source::LabelColumns,
    spreadsheet::Spreadsheet,
};

/// How deep folders may lie in folders.
const DEPTH: usize = 32;

/// Lists the images that a CSV labels.
///
/// # Errors
/// An unsound CSV. Labels without image and images without label are findings.
pub(super) fn labelled(
    images: &Path,
    labels: &Path,
    columns: &LabelColumns,
) -> Result<Found, DataError> {
    let sheet = Spreadsheet::read(labels)?;
    let (path, label) = (sheet.column(&columns.path)?, sheet.column(&columns.label)?);
    let patient = columns
        .patient
        .as_deref()
        .map(|name| sheet.column(name))
        .transpose()?;
    let mut unlabelled: HashSet<PathBuf> = image_files(images)?.into_iter().collect();
    let (mut found, mut seen) = (Found::default(), HashSet::new());
    for row in sheet.rows() {
        let place = Place::Line {
            file: labels.to_owned(),
            line: row.line,
        };
        let name = sheet.filled(row, path)?;
        let refused = |reason: String| DataError::Line {
            file: labels.to_owned(),
            line: row.line,
            reason,
        };
        if !is_inside(Path::new(name)) {
            let reason = format!("path {name:?} must be relative and stay in the folder of images");
            return Err(refused(reason));
        }
        let file = images.join(name);
        if !seen.insert(file.clone()) {
            return Err(refused(format!("image {name:?} has a label already")));
        }
        let record = Record {
            patient: match patient {
                Some(column) => sheet.filled(row, column)?.to_owned(),
                None => name.to_owned(),
            },
            label: sheet.filled(row, label)?.to_owned(),
            content: Content::File(file.clone()),
            place: place.clone(),
        };
        let has_image = unlabelled.remove(&file) || file.is_file();
        if has_image {
            found.records.push(record);
        } else {
            found.faults.push(Fault::LabelWithoutImage {
                place,
                image: name.to_owned(),
            });
        }
    }
    let mut unlabelled: Vec<_> = unlabelled.into_iter().collect();
    unlabelled.sort();
    found
        .faults
        .extend(unlabelled.into_iter().map(Fault::ImageWithoutLabel));
    Ok(found)
}

/// Lists the images whose folder is their label.
///
/// # Errors
/// A folder that cannot be read, or holds no folder. Images beside the folders are findings.
pub(super) fn in_class_folders(folder: &Path) -> Result<Found, DataError> {
    let mut found = Found::default();
    for file in image_files(folder)? {
        let relative = file.strip_prefix(folder).unwrap_or(&file);
        let mut parts = relative.components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(class)), Some(_)) => found.records.push(Record {
                label: class.to_string_lossy().into_owned(),
                patient: relative.to_string_lossy().into_owned(),
                place: Place::File(file.clone()),
                content: Content::File(file),
            }),
            _ => found.faults.push(Fault::ImageWithoutLabel(file)),
        }
    }
    Ok(found)
}

fn is_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// All PNG, JPEG and DICOM files below a folder, in a fixed order. Links to folders are not followed.
fn image_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    collect(folder, DEPTH, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for entry in std::fs::read_dir(folder).map_err(DataError::file(folder))? {
        let entry = entry.map_err(DataError::file(folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(DataError::file(&path))?;
        if kind.is_dir() && depth > 0 {
            collect(&path, depth - 1, files)?;
        } else if !kind.is_dir() && is_image(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| ENDINGS.contains(&e.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("room");
            std::fs::write(path, b"x").expect("room");
        }
        folder
    }

    fn list(files: &[&str], csv: &str) -> Result<Found, DataError> {
        let folder = folder(files);
        let labels = folder.path().join("labels.csv");
        std::fs::write(&labels, csv).expect("room");
        let columns = LabelColumns {
            patient: Some("who".into()),
            ..LabelColumns::default()
        };
        labelled(folder.path(), &labels, &columns)
    }

    #[test]
    fn each_label_finds_its_image_and_both_kinds_of_orphans_are_named() {
        let csv = "who,path,label\np1,a/1.png,x\np1,gone.png,y\np2,2.JPG,y\n";
        let found = list(&["a/1.png", "2.JPG", "left.jpeg", "notes.txt"], csv).expect("listed");
        let patients: Vec<_> = found.records.iter().map(|record| &record.patient).collect();
        assert_eq!(patients, ["p1", "p2"]);
        let faults: Vec<_> = found.faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 2);
        assert!(
            faults[0].contains("line 3") && faults[0].contains("gone.png"),
            "{faults:?}"
        );
        assert!(faults[1].contains("left.jpeg"), "{faults:?}");
    }

    #[test]
    fn paths_that_leave_the_folder_and_second_labels_are_refused() {
        let message = |csv: &str| list(&["1.png"], csv).expect_err("refused").to_string();
        assert!(message("path,label,who\n../1.png,x,p\n").contains("line 2"));
        assert!(message("path,label,who\n/etc/1.png,x,p\n").contains("relative"));
        assert!(message("path,label,who\n1.png,x,p\n1.png,y,p\n").contains("line 3"));
        assert!(message("path,label,who\n1.png,x,\n").contains("\"who\" is empty"));
    }

    #[test]
    fn the_folder_is_the_label() {
        let folder = folder(&["normal/1.png", "pneumonia/deep/2.png", "3.png"]);
        let found = in_class_folders(folder.path()).expect("listed");
        let labels: Vec<_> = found
            .records
            .iter()
            .map(|record| record.label.as_str())
            .collect();
        assert_eq!(labels, ["normal", "pneumonia"]);
        assert!(
            matches!(&found.faults[..], [Fault::ImageWithoutLabel(file)] if file.ends_with("3.png"))
        );
    }
}
