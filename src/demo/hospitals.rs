//! Generated hospitals, for the demo and for tests only: no image, patient or note in them is real.
//!
//! Hospitals differ as real ones do: their scanners have other contrast, brightness and noise, they
//! see sick and healthy patients in other shares, and their pneumonias sit in other places. A
//! network trained at one of them therefore fails on the others' images, which is what training
//! together is for. The same seed writes the same bytes: only operations that IEEE 754 rounds
//! exactly go into a pixel.

mod chest;
mod notes;

use std::path::Path;

use anyhow::{Context as _, Result};
use consilium_models::random::Random;

use self::chest::{Chest, Finding, Level, Opacity, Scanner, Side};
use super::material::{HospitalFolder, Material, write_hospital, write_part};

/// Classes of the generated images; the last one is the positive one.
pub(super) const CLASSES: [&str; 2] = ["normal", "pneumonia"];
/// Patients of each hospital. Some have two images.
const PATIENTS: usize = 2000;
/// Images of each public part, in equal shares from all hospitals and of both classes.
const PUBLIC_IMAGES: usize = 600;
/// Percentage of patients with a second image.
const SECOND_IMAGES: u64 = 20;

/// One image with everything that is written about it.
pub(super) struct Case {
    /// Name of its file, without the folder.
    pub(super) file: String,
    /// The pixels, 8-bit grey.
    pub(super) image: image::GrayImage,
    /// What is there to be seen: an entry of the class list.
    pub(super) class: String,
    /// Whose image it is; empty where nobody knows.
    pub(super) patient: String,
    /// Radiology notes: language and text.
    pub(super) notes: Vec<(&'static str, String)>,
}

/// Who comes to a hospital, and what its scanner makes of them.
struct Hospital {
    scanner: Scanner,
    /// Patients with pneumonia, in percent.
    sick: u64,
    /// Where its pneumonias sit most of the time.
    usual: (Side, Level),
}

impl Hospital {
    /// Three kinds of hospital in turn, each a little different from the last of its kind.
    fn new(index: usize, random: &mut Random) -> Self {
        let (scanner, sick, usual) = match index % 3 {
            0 => ((0.75, -0.10, 0.03), 25, (Side::Right, Level::Lower)),
            1 => ((1.20, 0.08, 0.05), 75, (Side::Left, Level::Upper)),
            _ => ((0.95, 0.16, 0.06), 45, (Side::Left, Level::Lower)),
        };
        let scanner = Scanner {
            contrast: scanner.0 + random.symmetric(0.03),
            brightness: scanner.1 + random.symmetric(0.02),
            noise: scanner.2,
        };
        Self {
            scanner,
            sick,
            usual,
        }
    }

    /// Draws what a patient has, sick with the given probability in percent.
    fn diagnose(&self, sick: u64, random: &mut Random) -> Finding {
        if random.bits() % 100 >= sick {
            return Finding::Normal;
        }
        let (side, level) = match random.bits() % 100 {
            0..85 => self.usual,
            other => Opacity::PLACES[other as usize % Opacity::PLACES.len()],
        };
        Finding::Pneumonia(Opacity::draw(side, level, random))
    }

    /// All images of one patient: the same chest each time, in another breath.
    fn examine(&self, patient: &str, sick: u64, images: usize, random: &mut Random) -> Vec<Case> {
        let finding = self.diagnose(sick, random);
        let chest = Chest::draw(random);
        let class = CLASSES[usize::from(finding != Finding::Normal)];
        (1..=images)
            .map(|number| Case {
                file: format!("{patient}-{number}.png"),
                image: chest.breathe(random).image(&finding, &self.scanner, random),
                class: class.to_owned(),
                patient: patient.to_owned(),
                notes: notes::of(&finding, random),
            })
            .collect()
    }
}

/// Generates `sites` hospitals and the public parts under `folder`.
///
/// # Errors
/// A file that cannot be written.
pub(super) fn generate(folder: &Path, sites: usize, seed: u64) -> Result<Material> {
    let mut random = Random::new(&[seed, 0]);
    let hospitals: Vec<_> = (0..sites)
        .map(|index| Hospital::new(index, &mut random))
        .collect();
    let mut folders = Vec::new();
    for (index, hospital) in hospitals.iter().enumerate() {
        let mut random = Random::new(&[seed, 1, index as u64]);
        let mut cases = Vec::new();
        for patient in 0..PATIENTS {
            let images = 1 + usize::from(random.bits() % 100 < SECOND_IMAGES);
            let patient = format!("H{}-{:04}", index + 1, patient + 1);
            cases.extend(hospital.examine(&patient, hospital.sick, images, &mut random));
        }
        let name = HospitalFolder::name_of(index);
        let path = folder.join(&name).join("data");
        write_hospital(&path, &cases).with_context(|| format!("writing the data of {name}"))?;
        label_as_generated(&path, seed)?;
        folders.push(HospitalFolder {
            name,
            path,
            patients: PATIENTS,
            has_patients: true,
        });
    }
    let public = folder.join("public");
    for (number, part) in ["val", "test"].into_iter().enumerate() {
        let mut random = Random::new(&[seed, 2, number as u64]);
        let mut cases = Vec::new();
        for index in 0..PUBLIC_IMAGES {
            let patient = format!("{part}-{:04}", index + 1);
            let hospital = &hospitals[index % sites];
            cases.extend(hospital.examine(&patient, 50, 1, &mut random));
        }
        write_part(&public.join(part), &cases).with_context(|| format!("writing {part}"))?;
    }
    label_as_generated(&public, seed)?;
    Ok(Material {
        classes: CLASSES.map(str::to_owned).to_vec(),
        hospitals: folders,
        public,
        width: chest::SIDE,
        height: chest::SIDE,
        channels: 1,
        is_generated: true,
    })
}

fn label_as_generated(folder: &Path, seed: u64) -> Result<()> {
    let text = format!(
        "Generated, not real patients.\n\n\
         Every image, patient number and note in this folder was made by `consilium demo` from the\n\
         seed {seed}. Nothing here describes a person, and nothing here is fit for medical use.\n",
    );
    let path = folder.join("README.txt");
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digest of all files of a folder, by name.
    fn fingerprint(folder: &Path) -> consilium_proto::Digest {
        let mut files = vec![];
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    &mut folders
                } else {
                    &mut files
                }
                .push(path);
            }
        }
        files.sort();
        let contents: Vec<_> = files
            .iter()
            .map(|file| std::fs::read(file).expect("a file"))
            .collect();
        let names: Vec<_> = files
            .iter()
            .map(|file| {
                file.strip_prefix(folder)
                    .expect("inside")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        let parts = names
            .iter()
            .map(|name| name.as_bytes())
            .chain(contents.iter().map(Vec::as_slice));
        consilium_proto::Digest::of("test", &parts.collect::<Vec<_>>())
    }

    #[test]
    fn the_same_seed_writes_the_same_bytes_and_another_seed_others() {
        let write = |seed| {
            let folder = tempfile::tempdir().expect("a folder");
            generate(folder.path(), 1, seed).expect("files");
            fingerprint(folder.path())
        };
        let first = write(7);
        assert_eq!(first, write(7));
        assert_ne!(first, write(8));
    }

    #[test]
    fn hospitals_differ_in_who_comes_and_how_it_looks() {
        let mut random = Random::new(&[1]);
        let hospitals: Vec<_> = (0..3)
            .map(|index| Hospital::new(index, &mut random))
            .collect();
        let mut brightness = vec![];
        for hospital in &hospitals {
            let mut sick = 0;
            let mut sum = 0.0;
            for _ in 0..200 {
                let cases = hospital.examine("p", hospital.sick, 1, &mut random);
                sick += u64::from(cases[0].class == CLASSES[1]);
                sum += cases[0]
                    .image
                    .pixels()
                    .map(|pixel| f64::from(pixel.0[0]))
                    .sum::<f64>();
            }
            // Twice the standard deviation of a coin thrown 200 times is 14.
            assert!((sick / 2).abs_diff(hospital.sick) < 10, "{sick} of 200");
            brightness.push(sum / 200.0 / (chest::SIDE * chest::SIDE) as f64);
        }
        assert!(brightness[1] - brightness[0] > 15.0, "{brightness:?}");
        assert!(brightness[2] - brightness[0] > 15.0, "{brightness:?}");
    }

    #[test]
    fn several_images_of_a_patient_share_the_diagnosis_and_not_the_pixels() {
        let mut random = Random::new(&[3]);
        let hospital = Hospital::new(0, &mut random);
        let cases = hospital.examine("p", 50, 2, &mut random);
        assert_eq!(cases[0].class, cases[1].class);
        assert_eq!(cases[0].patient, cases[1].patient);
        assert_ne!(cases[0].image, cases[1].image);
    }
}
