//! Texts, one note a file, and brat's marks beside them or in another folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    FILE_LIMIT, NOTE_LIMIT, NotesError, Place, ReadNote, brat, draft::Draft, file, pubtator,
};

/// Reads all texts of a folder, in the order of their names.
///
/// Where one text has a file of marks, each must have one, which may be empty: a text that nobody
/// has marked would teach that nothing is to be found in it.
///
/// # Errors
/// A folder in the folder, a text or a file of marks without the other, and what is wrong in them.
pub(super) fn read(folder: &Path, annotations: Option<&Path>) -> Result<Vec<ReadNote>, NotesError> {
    let texts = files(folder, "txt")?;
    if let Some(inner) = inner_folder(folder, annotations)? {
        let reason = "is a folder in the folder of notes; put all notes into one";
        return Err(NotesError::unsound(&inner, reason));
    }
    let marks = files(annotations.unwrap_or(folder), "ann")?;
    if texts.is_empty() {
        return Err(NotesError::unsound(folder, "the folder holds no .txt file"));
    }
    if let Some((_, alone)) = marks.iter().find(|(name, _)| !texts.contains_key(*name)) {
        return Err(NotesError::unsound(
            alone,
            "there is no .txt file of this name",
        ));
    }
    let is_marked = annotations.is_some() || !marks.is_empty();
    let mut left = FILE_LIMIT;
    let mut notes = Vec::with_capacity(texts.len());
    for (name, path) in texts {
        let marks = marks.get(&name);
        if is_marked && marks.is_none() {
            let reason = "others have an .ann file, this has none; write an empty one if nothing \
                          is to be marked in it";
            return Err(NotesError::unsound(&path, reason));
        }
        let text = file::read(&path, left.min(NOTE_LIMIT as u64))?;
        if pubtator::begins(&text) {
            let reason = "is a PubTator file, not a note; read it by itself";
            return Err(NotesError::unsound(&path, reason));
        }
        left -= text.len() as u64;
        notes.push(marked(path, name, text, marks.map(PathBuf::as_path))?);
    }
    Ok(notes)
}

/// One text as a note, with the marks of a file: `annotations`, or one of the same name in that
/// folder; without it, one beside the text if it is there.
///
/// # Errors
/// No such marks, and what is wrong in text or marks.
pub(super) fn note(
    path: &Path,
    text: String,
    annotations: Option<&Path>,
) -> Result<ReadNote, NotesError> {
    let marks = match annotations {
        Some(folder) if folder.is_dir() => Some(folder.join(format!("{}.ann", name_of(path)))),
        Some(file) => Some(file.to_owned()),
        None => Some(path.with_extension("ann")).filter(|beside| beside.is_file()),
    };
    marked(path.to_owned(), name_of(path), text, marks.as_deref())
}

fn marked(
    path: PathBuf,
    name: String,
    text: String,
    marks: Option<&Path>,
) -> Result<ReadNote, NotesError> {
    let mut draft = Draft::new(name, text).map_err(|reason| NotesError::unsound(&path, reason))?;
    if let Some(marks) = marks {
        let annotations = file::read(marks, FILE_LIMIT)?;
        brat::mark(&mut draft, &annotations)
            .map_err(|(line, reason)| NotesError::line(marks, line, reason))?;
    }
    Ok(ReadNote {
        note: draft.finish(),
        place: Place::File(path),
        unplaced: 0,
    })
}

/// What lies in a folder and is not hidden.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, NotesError> {
    let is_hidden = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(b".")
    };
    let entries = std::fs::read_dir(folder).map_err(NotesError::file(folder))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(NotesError::file(folder))?.path());
    }
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    Ok(paths)
}

/// A folder in a folder, other than that of the marks.
fn inner_folder(folder: &Path, marks: Option<&Path>) -> Result<Option<PathBuf>, NotesError> {
    let real = |path: &Path| path.canonicalize().ok();
    let marks = marks.and_then(real);
    let mut inner = entries(folder)?.into_iter().filter(|path| path.is_dir());
    Ok(inner.find(|path| marks.is_none() || real(path) != marks))
}

/// Files of a folder with an extension, by their name without it. Others are passed over.
fn files(folder: &Path, extension: &str) -> Result<BTreeMap<String, PathBuf>, NotesError> {
    let mut files = BTreeMap::new();
    for path in entries(folder)? {
        if file::extension(&path) != extension || path.is_dir() {
            continue;
        }
        if let Some(other) = files.insert(name_of(&path), path.clone()) {
            let reason = format!("has the name of {}; rename one of them", other.display());
            return Err(NotesError::unsound(&path, reason));
        }
    }
    Ok(files)
}

/// Name of a file without its extension: the id of the note in it.
fn name_of(file: &Path) -> String {
    file.file_stem()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("room");
        }
        folder
    }

    #[test]
    fn marks_are_found_beside_the_texts_and_elsewhere() {
        let ann = "T1\tDrug 0 7\tAspirin\n";
        let texts = [
            ("b.txt", "Aspirin"),
            ("a.TXT", "Nothing"),
            (".x.txt", ""),
            ("readme", ""),
        ];
        let beside = folder(&[&texts[..], &[("b.ann", ann), ("a.ann", "")]].concat());
        let notes = read(beside.path(), None).expect("sound");
        let ids: Vec<_> = notes.iter().map(|read| read.note.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(notes[1].note.entities.len(), 1);
        assert!(notes[1].place.to_string().ends_with("b.txt"));

        let (texts, marks) = (folder(&texts), folder(&[("b.ann", ann), ("a.ann", "")]));
        assert!(
            read(texts.path(), None).expect("sound")[1]
                .note
                .entities
                .is_empty()
        );
        let notes = read(texts.path(), Some(marks.path())).expect("sound");
        assert_eq!(notes[1].note.entities.len(), 1);
        let one = texts.path().join("b.txt");
        for marks in [marks.path().to_owned(), marks.path().join("b.ann")] {
            let read = note(&one, "Aspirin".into(), Some(&marks)).expect("sound");
            assert_eq!(read.note.entities.len(), 1);
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_file() {
        for (files, file, part) in [
            (&[("a.md", "x")][..], "", "no .txt file"),
            (&[("a.txt", "x"), ("b.ann", "")], "b.ann", "of this name"),
            (
                &[("a.txt", "x"), ("b.txt", "x"), ("a.ann", "")],
                "b.txt",
                "empty one",
            ),
            (&[("a.txt", "x"), ("b.txt", "\n")], "b.txt", "is empty"),
            (&[("a.txt", "x"), ("b.txt", "1|t|x")], "b.txt", "PubTator"),
            (
                &[("a.txt", "x"), ("a.ann", "\nT1\tD 0 2\tx")],
                "a.ann, line 2",
                "outside",
            ),
            (&[("a.txt", "x"), ("a.TXT", "x")], "a.", "rename"),
        ] {
            let folder = folder(files);
            let message = read(folder.path(), None).expect_err(part).to_string();
            assert!(
                message.contains(file) && message.contains(part),
                "{message}"
            );
        }
    }

    #[test]
    fn a_folder_in_the_folder_is_refused_unless_the_marks_lie_there() {
        let folder = folder(&[("a.txt", "x")]);
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("room");
        fs::write(inner.join("a.ann"), "").expect("room");
        let message = read(folder.path(), None).expect_err("a folder").to_string();
        assert!(message.contains("inner: is a folder"), "{message}");
        assert_eq!(read(folder.path(), Some(&inner)).expect("sound").len(), 1);
    }
}
