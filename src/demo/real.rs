//! Real pictures for the demo: the training part dealt out to hospitals, each written as a data set
//! of its own; the parts `val` and `test` stay public.

use std::path::Path;

use anyhow::{Context as _, Result};
use consilium_proto::ErrorCode;

use super::{
    material::{HospitalFolder, Labels, Material},
    shards::{Row, Shares, Split, by_shares, iid},
};
use crate::{
    failure::refuse,
    pictures::{Picture, PictureSet},
};

/// Longest side that enters the network; larger pictures are resized.
const LONGEST_SIDE: usize = 128;

/// How the pictures are dealt out.
pub(crate) struct Dealing<'a> {
    pub(crate) sites: usize,
    pub(crate) split: Split,
    /// Table of shares, for the Dirichlet split; drawn from the seed where there is none.
    pub(crate) shares: Option<&'a Path>,
    pub(crate) seed: u64,
}

/// Deals the pictures at `data` out to hospitals under `folder`.
///
/// # Errors
/// A set without the three parts, a hospital that would get no picture, a file that cannot be
/// read or written.
pub(crate) fn shard(data: &Path, folder: &Path, dealing: &Dealing<'_>) -> Result<Material> {
    let set = PictureSet::open(data)?;
    let pictures = set.part("train")?;
    let classes = classes_of(&pictures);
    if classes.len() < 2 {
        let message = format!("{} has one class: a classification needs two", set.name());
        return refuse(ErrorCode::Invalid, message);
    }
    let mut rows = Vec::with_capacity(pictures.len());
    for picture in &pictures {
        rows.push(Row {
            id: picture.id.clone(),
            class: picture.class_in(&classes)?,
        });
    }
    let dealt = match dealing.split {
        Split::Iid => iid(set.name(), &rows, dealing.sites),
        Split::Dirichlet => by_shares(set.name(), &rows, &shares(&rows, classes.len(), dealing)?),
    };
    let mut hospitals = Vec::new();
    for (index, rows) in dealt.iter().enumerate() {
        let name = HospitalFolder::name_of(index);
        if rows.is_empty() {
            let message = format!("{name} would get no picture: use --split iid or fewer sites");
            return refuse(ErrorCode::Invalid, message);
        }
        let path = folder.join(&name).join("data");
        write_pictures(&path, rows.iter().map(|&row| &pictures[row]))
            .with_context(|| format!("writing the data of {name}"))?;
        // The sets of this form name no patient: each picture counts as one.
        hospitals.push(HospitalFolder {
            name,
            path,
            patients: rows.len(),
            has_patients: false,
        });
    }
    let public = folder.join("public");
    for part in ["val", "test"] {
        for picture in set.part(part)? {
            let class = public
                .join(part)
                .join(&classes[picture.class_in(&classes)?]);
            std::fs::create_dir_all(&class)?;
            std::fs::write(class.join(file_name(&picture)), picture.read()?)?;
        }
    }
    let first = &pictures[0];
    let shown = image::load_from_memory(&first.read()?)
        .with_context(|| format!("reading {}", first.origin()))?;
    let side = |pixels: u32| (pixels as usize).clamp(8, LONGEST_SIDE);
    Ok(Material {
        classes,
        hospitals,
        public,
        width: side(shown.width()),
        height: side(shown.height()),
        channels: if shown.color().has_color() { 3 } else { 1 },
        is_generated: false,
    })
}

/// Names in alphabetical order; numbers in their own.
fn classes_of(pictures: &[Picture]) -> Vec<String> {
    let mut classes: Vec<_> = pictures
        .iter()
        .map(|picture| picture.label.clone())
        .collect();
    classes.sort_by_key(|class| (class.parse::<u64>().unwrap_or(u64::MAX), class.clone()));
    classes.dedup();
    classes
}

fn shares(rows: &[Row], classes: usize, dealing: &Dealing<'_>) -> Result<Shares> {
    match dealing.shares {
        Some(path) => Shares::from_csv(path, dealing.sites, classes),
        None => {
            let count = |class| rows.iter().filter(|row| row.class == class).count();
            let counts: Vec<_> = (0..classes).map(count).collect();
            Shares::draw(dealing.seed, dealing.sites, &counts)
        }
    }
}

fn write_pictures<'a>(folder: &Path, pictures: impl Iterator<Item = &'a Picture>) -> Result<()> {
    let images = folder.join("images");
    std::fs::create_dir_all(&images)?;
    let mut labels = Labels::create(folder)?;
    for picture in pictures {
        let file = file_name(picture);
        std::fs::write(images.join(&file), picture.read()?)?;
        labels.add(&file, &picture.label, "")?;
    }
    labels.finish()
}

/// Two classes may have a picture of the same id.
fn file_name(picture: &Picture) -> String {
    format!("{}_{}.{}", picture.label, picture.id, picture.extension())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_set(folder: &Path, classes: &[&str], images: usize) {
        for part in ["train", "val", "test"] {
            for class in classes {
                let folder = folder.join(part).join(class);
                std::fs::create_dir_all(&folder).expect("a folder");
                for index in 0..images {
                    let picture = image::GrayImage::from_pixel(12, 10, image::Luma([index as u8]));
                    picture
                        .save(folder.join(format!("{index:05}.png")))
                        .expect("a file");
                }
            }
        }
    }

    fn dealing(sites: usize) -> Dealing<'static> {
        Dealing {
            sites,
            split: Split::Iid,
            shares: None,
            seed: 1,
        }
    }

    #[test]
    fn every_training_picture_is_written_to_one_hospital() {
        let (data, folder) = (
            tempfile::tempdir().expect("one"),
            tempfile::tempdir().expect("two"),
        );
        write_set(data.path(), &["a", "b"], 5);
        let material = shard(data.path(), folder.path(), &dealing(3)).expect("a material");
        assert_eq!(material.classes, ["a", "b"]);
        assert_eq!(
            (material.width, material.height, material.channels),
            (12, 10, 1)
        );
        let sizes: Vec<_> = material
            .hospitals
            .iter()
            .map(|hospital| hospital.patients)
            .collect();
        assert_eq!(sizes, [4, 3, 3]);
        for hospital in &material.hospitals {
            let labels = std::fs::read_to_string(hospital.labels()).expect("a table");
            let images = std::fs::read_dir(hospital.images())
                .expect("a folder")
                .count();
            assert_eq!(labels.lines().count() - 1, images);
            assert_eq!(images, hospital.patients);
        }
        assert!(folder.path().join("public/test/b/b_00004.png").is_file());
    }

    #[test]
    fn too_many_sites_and_single_classes_are_refused() {
        let (data, folder) = (
            tempfile::tempdir().expect("one"),
            tempfile::tempdir().expect("two"),
        );
        write_set(data.path(), &["a", "b"], 1);
        let error = shard(data.path(), folder.path(), &dealing(3))
            .err()
            .expect("two pictures");
        assert!(error.to_string().contains("hospital-3"), "{error}");
        let data = tempfile::tempdir().expect("a folder");
        write_set(data.path(), &["a"], 2);
        assert!(shard(data.path(), folder.path(), &dealing(1)).is_err());
    }
}
