//! Deals the training pictures of one data set out to hospitals, by a rule anybody can repeat.
//!
//! Pictures are ordered by the SHA-256 of `shard-2026|<set>|train/<id>`. `iid` deals them out one by
//! one; `dirichlet` gives each hospital its share of each class, so that hospitals see the classes
//! in very different proportions (Hsu et al. 2019, concentration 1/2).

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use consilium_models::random::Random;
use consilium_proto::{Digest, ErrorCode};

use crate::failure::{Classify as _, refuse};

/// Shares are given in parts of this.
const WHOLE: u64 = 10_000;
/// Most columns of shares in a table.
const COLUMNS: usize = 8;
/// Times that shares are drawn before giving up on a split that serves every hospital.
const DRAWS: u64 = 1000;

/// How training pictures go to hospitals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// In turn: every hospital gets the same mixture.
    Iid,
    /// By shares of each class: hospitals see the classes in different proportions.
    Dirichlet,
}

/// A training picture as the rule sees it.
pub(super) struct Row {
    /// Its id, without the part.
    pub(super) id: String,
    /// Its class, by number.
    pub(super) class: usize,
}

/// Of each class, the share of each hospital, in 1/10 000; they sum to 10 000.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shares(Vec<Vec<u64>>);

/// Where a picture stands in the order of its set.
fn key(set: &str, id: &str) -> Digest {
    Digest::plain(format!("shard-2026|{set}|train/{id}").as_bytes())
}

/// Places of the rows in the order of their keys.
fn in_order(set: &str, rows: &[Row]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_cached_key(|&row| (key(set, &rows[row].id), rows[row].class));
    order
}

/// Deals the rows out in turn. Returns the places of each hospital's rows.
pub(super) fn iid(set: &str, rows: &[Row], hospitals: usize) -> Vec<Vec<usize>> {
    let order = in_order(set, rows);
    (0..hospitals)
        .map(|h| order.iter().skip(h).step_by(hospitals).copied().collect())
        .collect()
}

/// Deals the rows of each class out by shares. Returns the places of each hospital's rows.
pub(super) fn by_shares(set: &str, rows: &[Row], shares: &Shares) -> Vec<Vec<usize>> {
    let order = in_order(set, rows);
    let hospitals = shares.0.first().map_or(0, Vec::len);
    let mut dealt = vec![Vec::new(); hospitals];
    for (class, shares) in shares.0.iter().enumerate() {
        let members: Vec<_> = order
            .iter()
            .filter(|&&row| rows[row].class == class)
            .collect();
        let mut sum = 0;
        let mut from = 0;
        for (hospital, share) in shares.iter().enumerate() {
            sum += share;
            let to = ((sum * members.len() as u64 + WHOLE / 2) / WHOLE) as usize;
            dealt[hospital].extend(members[from..to].iter().copied());
            from = to;
        }
    }
    dealt
}

impl Shares {
    /// Reads a table `hospitals,class_index,share_0,…` and takes the rows for this many hospitals.
    ///
    /// # Errors
    /// No such table, a class without a row, shares that do not sum to 10 000.
    pub(super) fn from_csv(path: &Path, hospitals: usize, classes: usize) -> Result<Self> {
        let context = || format!("reading the shares {}", path.display());
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .from_path(path)
            .with_context(context)
            .classify(ErrorCode::Missing)?;
        let mut shares = vec![None; classes];
        for (index, record) in reader.records().enumerate() {
            let record = record.with_context(context)?;
            let line = index + 2;
            let wrong = |what: &str| format!("{}, line {line}: {what}", path.display());
            let mut numbers = Vec::new();
            for field in record.iter().filter(|field| !field.trim().is_empty()) {
                match field.trim().parse::<u64>() {
                    Ok(number) => numbers.push(number),
                    Err(_) => {
                        let message = wrong(&format!("{field:?} is no whole number"));
                        return refuse(ErrorCode::Invalid, message);
                    }
                }
            }
            let [of, class, given @ ..] = numbers.as_slice() else {
                return refuse(
                    ErrorCode::Invalid,
                    wrong("needs hospitals, class_index and shares"),
                );
            };
            if *of != hospitals as u64 || *class >= classes as u64 {
                continue;
            }
            let is_whole = given
                .iter()
                .try_fold(0_u64, |sum, &share| sum.checked_add(share));
            if given.len() != hospitals || is_whole != Some(WHOLE) {
                let message = wrong(&format!("needs {hospitals} shares that sum to {WHOLE}"));
                return refuse(ErrorCode::Invalid, message);
            }
            shares[*class as usize] = Some(given.to_vec());
        }
        match shares.into_iter().collect() {
            Some(shares) => Ok(Self(shares)),
            None => refuse(
                ErrorCode::Invalid,
                format!(
                    "{} has not a row for each of {classes} classes and {hospitals} hospitals (2 to \
                     {COLUMNS}): leave --shares out to draw them from the seed",
                    path.display()
                ),
            ),
        }
    }

    /// Draws shares of each class from a seed, anew until no hospital is left with less than a
    /// quarter of an even share of all rows.
    ///
    /// # Errors
    /// No such shares were found: too many hospitals for the classes.
    pub(super) fn draw(seed: u64, hospitals: usize, rows_of_class: &[usize]) -> Result<Self> {
        let rows: usize = rows_of_class.iter().sum();
        for attempt in 0..DRAWS {
            let mut random = Random::new(&[seed, 3, attempt]);
            let shares = rows_of_class
                .iter()
                .map(|_| draw_one(hospitals, &mut random));
            let shares = Self(shares.collect());
            let rows_of = |hospital: usize| -> u64 {
                shares
                    .0
                    .iter()
                    .zip(rows_of_class)
                    .map(|(s, &n)| s[hospital] * n as u64)
                    .sum()
            };
            let least = (0..hospitals).map(rows_of).min().unwrap_or(0);
            if 4 * least * hospitals as u64 >= rows as u64 * WHOLE {
                return Ok(shares);
            }
        }
        let message =
            format!("no split serves {hospitals} hospitals: use --split iid or fewer sites");
        refuse(ErrorCode::Invalid, message)
    }
}

/// One draw from the Dirichlet law of concentration 1/2, in 1/10 000. Half the square of a standard
/// normal number follows the gamma law of shape 1/2.
fn draw_one(hospitals: usize, random: &mut Random) -> Vec<u64> {
    let squares: Vec<f64> = (0..hospitals)
        .map(|_| f64::from(random.normal()).powi(2))
        .collect();
    let total: f64 = squares.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut sum = 0.0;
    let mut before = 0;
    let mut shares = Vec::with_capacity(hospitals);
    for square in &squares {
        sum += square;
        let cut = (sum / total * WHOLE as f64).round() as u64;
        shares.push(cut - before);
        before = cut;
    }
    shares
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::pictures::PictureSet;

    const SET: &str = "pneumoniamnist";

    /// The public data beside a checkout, where there is one.
    fn shared() -> Option<PathBuf> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
        if path.is_dir() {
            return Some(path);
        }
        println!("skipped: ../shared/data is not here");
        None
    }

    fn rows(set: &str, path: &Path) -> Vec<Row> {
        let set = PictureSet::open(&path.join(set)).expect("a set");
        let pictures = set.part("train").expect("a part");
        let mut classes: Vec<_> = pictures
            .iter()
            .map(|picture| picture.label.clone())
            .collect();
        classes.sort();
        classes.dedup();
        let row = |picture: &crate::pictures::Picture| Row {
            id: picture.id.clone(),
            class: picture.class_in(&classes).expect("a class"),
        };
        pictures.iter().map(row).collect()
    }

    fn counts(rows: &[Row], dealt: &[Vec<usize>]) -> Vec<(usize, usize)> {
        let count = |rows_of: &Vec<usize>, class| {
            rows_of
                .iter()
                .filter(|&&row| rows[row].class == class)
                .count()
        };
        dealt
            .iter()
            .map(|rows_of| (count(rows_of, 0), count(rows_of, 1)))
            .collect()
    }

    #[test]
    fn the_key_is_the_published_one() {
        assert!(
            key(SET, "00001")
                .to_string()
                .starts_with("3dd7e30c59c32a4e")
        );
    }

    #[test]
    fn real_sets_are_dealt_out_as_published() {
        let Some(shared) = shared() else { return };
        let rows = rows(SET, &shared);
        let order = in_order(SET, &rows);
        let first: Vec<_> = order[..4]
            .iter()
            .map(|&row| rows[row].id.as_str())
            .collect();
        assert_eq!(first, ["04282", "00591", "01533", "00517"]);
        let table = shared.join("shards/dirichlet_a05.csv");
        let shares = Shares::from_csv(&table, 4, 2).expect("a table");
        let dealt = by_shares(SET, &rows, &shares);
        assert_eq!(
            counts(&rows, &dealt),
            [(9, 848), (776, 120), (1, 1369), (185, 458)]
        );

        let rows = self::rows("breastmnist", &shared);
        let dealt = by_shares("breastmnist", &rows, &shares);
        assert_eq!(
            counts(&rows, &dealt),
            [(1, 97), (94, 14), (0, 156), (23, 52)]
        );
    }

    #[test]
    fn an_npz_is_dealt_out_like_its_pictures() {
        let Some(shared) = shared() else { return };
        let pictures = rows(SET, &shared);
        let npz = PictureSet::open(&shared.join(SET).join("public.npz")).expect("a set");
        assert_eq!(npz.name(), SET);
        let numbers: std::collections::HashSet<_> = npz
            .part("train")
            .expect("a part")
            .into_iter()
            .map(|p| (p.id, p.label))
            .collect();
        let shown = pictures
            .iter()
            .map(|row| (row.id.clone(), row.class.to_string()));
        assert_eq!(numbers, shown.collect());
    }

    fn invented(count: usize) -> Vec<Row> {
        (0..count)
            .map(|index| Row {
                id: format!("{index:05}"),
                class: index % 3 % 2,
            })
            .collect()
    }

    #[test]
    fn every_row_goes_to_exactly_one_hospital() {
        let rows = invented(101);
        let shares = Shares::draw(5, 4, &[67, 34]).expect("shares");
        for dealt in [iid("x", &rows, 4), by_shares("x", &rows, &shares)] {
            let mut all: Vec<_> = dealt.concat();
            all.sort();
            assert_eq!(all, (0..101).collect::<Vec<_>>());
            assert!(dealt.iter().all(|rows| !rows.is_empty()));
        }
    }

    #[test]
    fn drawn_shares_follow_the_seed_and_sum_to_the_whole() {
        let draw = |seed| Shares::draw(seed, 5, &[500, 500]).expect("shares");
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        for class in draw(3).0 {
            assert_eq!(class.iter().sum::<u64>(), WHOLE);
        }
    }

    #[test]
    fn unsound_tables_are_refused_with_their_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shares.csv");
        let refusal = |text: &str| {
            std::fs::write(&path, text).expect("a file");
            let error = Shares::from_csv(&path, 2, 2).expect_err("an unsound table");
            crate::failure::message(&error)
        };
        let header = "hospitals,class_index,share_0,share_1\n";
        assert!(refusal(&format!("{header}2,0,5000,5001\n")).contains("line 2"));
        assert!(refusal(&format!("{header}2,0,x,5000\n")).contains("no whole number"));
        assert!(refusal(&format!("{header}2,0,5000,5000\n")).contains("each of 2 classes"));
    }
}
