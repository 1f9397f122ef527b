//! Labelled pictures that a person has on disk: `{train,val,test}/<class>/*.png`, or the npz of
//! MedMNIST (`train_images`, `train_labels`, and `train_ids` where the file has them).

use std::{
    fs::File,
    io::{BufReader, Cursor},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use consilium_proto::ErrorCode;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use npyz::npz::NpzArchive;

use crate::failure::{Classify as _, refuse};

/// Kinds of files that count as pictures.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];
/// Largest npz that is read, in bytes: 4 GiB.
const NPZ_LIMIT: u64 = 4 << 30;

/// One picture with what it shows.
pub struct Picture {
    /// What it is called: the file's name without its ending, or its number in five digits.
    pub id: String,
    /// What it shows: the name of its folder, or the number of its class.
    pub label: String,
    content: Content,
}

enum Content {
    File(PathBuf),
    Png(Vec<u8>),
}

impl Picture {
    /// The bytes of the picture's file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        match &self.content {
            Content::File(path) => {
                std::fs::read(path).with_context(|| format!("reading {}", path.display()))
            }
            Content::Png(bytes) => Ok(bytes.clone()),
        }
    }

    /// Where it comes from, for messages.
    pub fn origin(&self) -> String {
        match &self.content {
            Content::File(path) => path.display().to_string(),
            Content::Png(_) => format!("picture {} of the npz", self.id),
        }
    }

    /// Ending that fits its bytes.
    pub fn extension(&self) -> String {
        match &self.content {
            Content::File(path) => extension_of(path),
            Content::Png(_) => "png".to_owned(),
        }
    }

    /// Its place in a plan's list of classes: by name, or else by number.
    ///
    /// # Errors
    /// A label that is neither.
    pub fn class_in(&self, classes: &[String]) -> Result<usize> {
        let by_name = classes.iter().position(|class| *class == self.label);
        let by_number = || {
            self.label
                .parse()
                .ok()
                .filter(|&index| index < classes.len())
        };
        match by_name.or_else(by_number) {
            Some(index) => Ok(index),
            None => refuse(
                ErrorCode::Invalid,
                format!(
                    "{}: class {:?} is none of {classes:?}: rename the folder as the plan names it",
                    self.origin(),
                    self.label
                ),
            ),
        }
    }
}

/// A folder or archive of pictures in parts.
pub struct PictureSet {
    name: String,
    place: Place,
}

enum Place {
    Folder(PathBuf),
    Npz(PathBuf),
}

impl PictureSet {
    /// Finds the pictures at a path: an npz, a folder of parts, or a folder that holds one of the
    /// two (parts in its subfolder `png`).
    ///
    /// # Errors
    /// Nothing of the kind is there.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() {
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            let name = name_of(parent.unwrap_or(Path::new(".")))?;
            return Ok(Self {
                name,
                place: Place::Npz(path.to_owned()),
            });
        }
        if !path.is_dir() {
            let message = format!("{} does not exist: give a folder or an npz", path.display());
            return refuse(ErrorCode::Missing, message);
        }
        let has_parts = |folder: &Path| {
            ["train", "val", "test"]
                .iter()
                .any(|part| folder.join(part).is_dir())
        };
        if has_parts(path) {
            // The folder of the data set is the one around `png`.
            let named = if path.ends_with("png") {
                path.join("..")
            } else {
                path.to_owned()
            };
            return Ok(Self {
                name: name_of(&named)?,
                place: Place::Folder(path.to_owned()),
            });
        }
        let inner = path.join("png");
        if has_parts(&inner) {
            return Ok(Self {
                name: name_of(path)?,
                place: Place::Folder(inner),
            });
        }
        let archives: Vec<_> = list(path)?
            .into_iter()
            .filter(|path| extension_of(path) == "npz")
            .collect();
        match archives.as_slice() {
            [archive] => Ok(Self {
                name: name_of(path)?,
                place: Place::Npz(archive.clone()),
            }),
            _ => refuse(
                ErrorCode::Missing,
                format!(
                    "{} holds neither train/, val/ and test/ with a folder a class, nor one npz",
                    path.display()
                ),
            ),
        }
    }

    /// Name of the data set: of its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pictures of one part, in the order of their names within their classes.
    ///
    /// # Errors
    /// A part that is missing or empty, or an npz that cannot be read.
    pub fn part(&self, part: &str) -> Result<Vec<Picture>> {
        let pictures = match &self.place {
            Place::Folder(folder) => classes_of(&folder.join(part))?,
            Place::Npz(path) => {
                from_npz(path, part).with_context(|| format!("reading {}", path.display()))?
            }
        };
        if pictures.is_empty() {
            let message = format!("the part {part:?} of {} holds no picture", self.name);
            return refuse(ErrorCode::Missing, message);
        }
        Ok(pictures)
    }
}

fn name_of(folder: &Path) -> Result<String> {
    let path = folder
        .canonicalize()
        .with_context(|| format!("opening {}", folder.display()))?;
    Ok(path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned())
}

fn extension_of(path: &Path) -> String {
    path.extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase()
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("opening {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn classes_of(part: &Path) -> Result<Vec<Picture>> {
    let mut pictures = Vec::new();
    for folder in list(part)
        .classify(ErrorCode::Missing)?
        .into_iter()
        .filter(|path| path.is_dir())
    {
        let label = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for file in list(&folder)? {
            if EXTENSIONS.contains(&extension_of(&file).as_str()) {
                let id = file
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                pictures.push(Picture {
                    id,
                    label: label.clone(),
                    content: Content::File(file),
                });
            }
        }
    }
    Ok(pictures)
}

fn from_npz(path: &Path, part: &str) -> Result<Vec<Picture>> {
    let length = std::fs::metadata(path)?.len();
    if length > NPZ_LIMIT {
        bail!("the file has {length} bytes, more than {NPZ_LIMIT}: use a folder of PNG files");
    }
    let mut archive = NpzArchive::new(BufReader::new(File::open(path)?))
        .context("this is no npz")
        .classify(ErrorCode::Invalid)?;
    let (pixels, shape) = array::<u8>(&mut archive, &format!("{part}_images"))?;
    let (labels, _) = whole_numbers(&mut archive, &format!("{part}_labels"))?;
    let has_ids = archive.by_name(&format!("{part}_ids"))?.is_some();
    let ids = match has_ids {
        true => whole_numbers(&mut archive, &format!("{part}_ids"))?.0,
        false => (0..labels.len() as u64).collect(),
    };
    let (count, height, width, channels) = match *shape.as_slice() {
        [count, height, width] => (count, height, width, 1),
        [count, height, width, 3] => (count, height, width, 3),
        _ => bail!("{part}_images must be N x H x W or N x H x W x 3, found {shape:?}"),
    };
    let size = usize::try_from(height * width * channels)?;
    if labels.len() as u64 != count || ids.len() != labels.len() || size == 0 {
        bail!(
            "{part} has {count} images, {} labels and {} ids",
            labels.len(),
            ids.len()
        );
    }
    let mut pictures = Vec::with_capacity(labels.len());
    for ((pixels, label), id) in pixels.chunks_exact(size).zip(labels).zip(ids) {
        let (width, height) = (u32::try_from(width)?, u32::try_from(height)?);
        let content = Content::Png(to_png(pixels.to_vec(), width, height, channels == 3)?);
        pictures.push(Picture {
            id: format!("{id:05}"),
            label: label.to_string(),
            content,
        });
    }
    Ok(pictures)
}

fn to_png(pixels: Vec<u8>, width: u32, height: u32, is_rgb: bool) -> Result<Vec<u8>> {
    let picture = match is_rgb {
        true => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
        false => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    let mut bytes = Cursor::new(Vec::new());
    picture
        .context("too few pixels")?
        .write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

type Archive = NpzArchive<BufReader<File>>;

fn array<T: npyz::Deserialize>(archive: &mut Archive, name: &str) -> Result<(Vec<T>, Vec<u64>)> {
    let file = archive
        .by_name(name)?
        .with_context(|| format!("the npz has no array {name:?}"))?;
    if file.order() != npyz::Order::C {
        bail!("the array {name:?} must be stored row by row (C order)");
    }
    let shape = file.shape().to_vec();
    let values = file
        .into_vec()
        .with_context(|| format!("the array {name:?}"))?;
    Ok((values, shape))
}

/// Labels and ids come as bytes or as integers of some width.
fn whole_numbers(archive: &mut Archive, name: &str) -> Result<(Vec<u64>, Vec<u64>)> {
    if let Ok((values, shape)) = array::<u8>(archive, name) {
        return Ok((values.into_iter().map(u64::from).collect(), shape));
    }
    if let Ok((values, shape)) = array::<i32>(archive, name) {
        let values = values
            .into_iter()
            .map(u64::try_from)
            .collect::<Result<_, _>>()?;
        return Ok((values, shape));
    }
    if let Ok((values, shape)) = array::<u32>(archive, name) {
        return Ok((values.into_iter().map(u64::from).collect(), shape));
    }
    if let Ok((values, shape)) = array::<u16>(archive, name) {
        return Ok((values.into_iter().map(u64::from).collect(), shape));
    }
    let (values, shape) = array::<i64>(archive, name)?;
    Ok((
        values
            .into_iter()
            .map(u64::try_from)
            .collect::<Result<_, _>>()?,
        shape,
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use npyz::WriterBuilder as _;

    use super::*;

    fn write_npz(path: &Path) {
        let mut archive = npyz::npz::NpzWriter::create(path).expect("a file");
        let options = Default::default();
        let mut images = archive
            .array("test_images", options)
            .expect("an entry")
            .default_dtype()
            .shape(&[2, 2, 2])
            .begin_nd()
            .expect("a header");
        images.extend([1_u8, 2, 3, 4, 5, 6, 7, 8]).expect("pixels");
        images.finish().expect("an array");
        let mut labels = archive
            .array("test_labels", Default::default())
            .expect("an entry")
            .default_dtype()
            .shape(&[2, 1])
            .begin_nd()
            .expect("a header");
        labels.extend([1_i64, 0]).expect("labels");
        labels.finish().expect("an array");
    }

    #[test]
    fn an_npz_gives_its_pixels_labels_and_numbers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("some.npz");
        write_npz(&path);
        let pictures = PictureSet::open(&path)
            .expect("a set")
            .part("test")
            .expect("its part");
        let shown: Vec<_> = pictures
            .iter()
            .map(|p| (p.id.as_str(), p.label.as_str()))
            .collect();
        assert_eq!(shown, [("00000", "1"), ("00001", "0")]);
        let bytes = pictures[1].read().expect("bytes");
        let pixels = image::load_from_memory(&bytes)
            .expect("a PNG")
            .into_luma8()
            .into_raw();
        assert_eq!(pixels, [5, 6, 7, 8]);
        let classes = ["normal".to_owned(), "sick".to_owned()];
        assert_eq!(pictures[0].class_in(&classes).expect("a class"), 1);
    }

    #[test]
    fn a_folder_gives_a_class_for_each_of_its_folders_and_ignores_other_files() {
        let folder = tempfile::tempdir().expect("a folder");
        for (class, file) in [("b", "2.png"), ("a", "1.PNG"), ("a", "notes.txt")] {
            let class = folder.path().join("png/val").join(class);
            std::fs::create_dir_all(&class).expect("a folder");
            File::create(class.join(file))
                .expect("a file")
                .write_all(b"x")
                .expect("bytes");
        }
        let set = PictureSet::open(folder.path()).expect("a set");
        assert_eq!(
            Some(set.name()),
            folder.path().file_name().and_then(|name| name.to_str())
        );
        let pictures = set.part("val").expect("its part");
        let shown: Vec<_> = pictures
            .iter()
            .map(|p| (p.id.as_str(), p.label.as_str()))
            .collect();
        assert_eq!(shown, [("1", "a"), ("2", "b")]);
        let error = pictures[0]
            .class_in(&["c".to_owned()])
            .expect_err("no such class");
        assert!(error.to_string().contains("rename the folder"), "{error}");
        assert!(set.part("test").is_err());
    }
}
