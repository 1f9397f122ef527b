//! Which way the patient lies in a picture, by its tags, and the turn that brings it into the usual view.
//!
//! A network learns left from right by where things stand in the picture, so a mirrored chest is another
//! patient to it. What the tags say is therefore applied, not only noted: flips and quarter turns lose
//! nothing. The usual views, as a reader sees them: rows run to the patient's left (from the front and for
//! cross sections) or to the back (from the side); columns run to the feet, in cross sections to the back.
//! Mammograms stay as they are stored: their direction follows the breast's side by design (PS3.3 C.8.11.7).
//! Without orientation tags a picture stays as it is, and says so.

use dicom_core::Tag;
use serde::{Deserialize, Serialize};

use super::{data_set::Level, turn::Turn};

const IMAGE_ORIENTATION: Tag = Tag(0x0020, 0x0037);
const PATIENT_ORIENTATION: Tag = Tag(0x0020, 0x0020);
const ANATOMY: Tag = Tag(0x0010, 0x2210);
const PLANE_ORIENTATION: Tag = Tag(0x0020, 0x9116);
const FRAME_ANATOMY: Tag = Tag(0x0020, 0x9071);
const FRAME_LATERALITY: Tag = Tag(0x0020, 0x9072);
const IMAGE_LATERALITY: Tag = Tag(0x0020, 0x0062);
const LATERALITY: Tag = Tag(0x0020, 0x0060);

/// Why orientation tags cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrientationError {
    /// Image Orientation (Patient) is not two perpendicular unit vectors.
    #[error("{IMAGE_ORIENTATION} is not a pair of perpendicular unit vectors")]
    NotPerpendicular,
    /// Patient Orientation has other letters than A, P, L, R, H, F, or twice the same axis, or is that of an
    /// animal on four legs.
    #[error("{PATIENT_ORIENTATION} is not a pair of directions")]
    NotDirections,
    /// Both tags are there and point different ways.
    #[error("{IMAGE_ORIENTATION} and {PATIENT_ORIENTATION} contradict each other")]
    Contradiction,
    /// Two laterality tags that name different sides.
    #[error("{IMAGE_LATERALITY} and {LATERALITY} name different sides")]
    Sides,
}

/// A direction in the patient's body (PS3.3 C.7.6.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// To the front.
    Anterior,
    /// To the back.
    Posterior,
    /// To the patient's left.
    Left,
    /// To the patient's right.
    Right,
    /// To the head.
    Head,
    /// To the feet.
    Feet,
}

impl Direction {
    /// The direction a letter stands for.
    fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'A' => Self::Anterior,
            'P' => Self::Posterior,
            'L' => Self::Left,
            'R' => Self::Right,
            'H' => Self::Head,
            'F' => Self::Feet,
            _ => return None,
        })
    }

    /// How far a vector of patient coordinates goes this way: x to the left, y to the back, z to the head.
    fn along(self, [x, y, z]: [f64; 3]) -> f64 {
        match self {
            Self::Left => x,
            Self::Right => -x,
            Self::Posterior => y,
            Self::Anterior => -y,
            Self::Head => z,
            Self::Feet => -z,
        }
    }

    /// The direction that a vector goes farthest, of those off an axis.
    fn of_vector(vector: [f64; 3], off: Option<Self>) -> Self {
        use Direction::*;
        let is_free = |way: &Self| off.is_none_or(|off| !way.is_on_axis_of(off));
        let ways = [Left, Right, Posterior, Anterior, Head, Feet]
            .into_iter()
            .filter(is_free);
        let farther = |best: Self, way: Self| match way.along(vector) > best.along(vector) {
            true => way,
            false => best,
        };
        ways.reduce(farther).unwrap_or(Left)
    }

    /// The other way on the same axis.
    pub fn opposite(self) -> Self {
        match self {
            Self::Anterior => Self::Posterior,
            Self::Posterior => Self::Anterior,
            Self::Left => Self::Right,
            Self::Right => Self::Left,
            Self::Head => Self::Feet,
            Self::Feet => Self::Head,
        }
    }

    fn is_on_axis_of(self, other: Self) -> bool {
        self == other || self == other.opposite()
    }
}

/// A side of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The patient's left.
    Left,
    /// The patient's right.
    Right,
    /// Both in one picture.
    Both,
    /// A part that is not paired.
    Unpaired,
}

impl Side {
    fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "L" => Self::Left,
            "R" => Self::Right,
            "B" => Self::Both,
            "U" => Self::Unpaired,
            _ => return None,
        })
    }
}

/// Where the patient's body lies in a stored picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Orientation {
    /// Where a row runs to, from the first column to the last, and a column, from the first row to the
    /// last; `None` when no tag says.
    pub directions: Option<(Direction, Direction)>,
    /// The side of a paired part of the body.
    pub side: Option<Side>,
}

impl Orientation {
    /// Reads the tags of a frame, counted from 0.
    ///
    /// # Errors
    /// Tags that cannot be followed or contradict each other.
    pub(super) fn of_frame(
        top: Level<'_>,
        groups: [Option<Level<'_>>; 2],
    ) -> Result<Self, OrientationError> {
        let group = |sequence| {
            groups
                .into_iter()
                .flatten()
                .find_map(|level| level.item(sequence))
        };
        let plane = group(PLANE_ORIENTATION).unwrap_or(top);
        let vectors = match plane.text(IMAGE_ORIENTATION) {
            Some(_) => Some(vectors(&plane.decimals(IMAGE_ORIENTATION))?),
            None => None,
        };
        let letters = letters(&top.text(PATIENT_ORIENTATION).unwrap_or_default())?;
        // Four-legged patients have other letters, some of them the same.
        let has_four_legs = top.text(ANATOMY).is_some_and(|kind| kind != "BIPED");
        if has_four_legs && letters.is_some() {
            return Err(OrientationError::NotDirections);
        }
        let directions = match (vectors, letters) {
            (Some((row, column)), letters) => {
                if letters.is_some_and(|(a, b)| a.along(row) < 0.5 || b.along(column) < 0.5) {
                    return Err(OrientationError::Contradiction);
                }
                let across = Direction::of_vector(row, None);
                Some((across, Direction::of_vector(column, Some(across))))
            }
            (None, letters) => letters,
        };
        let side = |level: Level<'_>, tag| level.text(tag).and_then(|code| Side::from_code(&code));
        let frame = group(FRAME_ANATOMY).and_then(|level| side(level, FRAME_LATERALITY));
        let sides = [frame, side(top, IMAGE_LATERALITY), side(top, LATERALITY)];
        let mut named = sides.into_iter().flatten();
        let side = named.next();
        // A series may be of both sides and a picture of it of one.
        if named.any(|other| Some(other) != side && other != Side::Both) {
            return Err(OrientationError::Sides);
        }
        Ok(Self { directions, side })
    }

    /// The turn that brings the stored picture into the usual view: none without directions.
    pub fn turn(&self) -> Turn {
        use Direction::*;
        let Some((row, column)) = self.directions else {
            return Turn::default();
        };
        let across = |one: Direction, other: Direction| {
            (row.is_on_axis_of(one) && column.is_on_axis_of(other))
                || (row.is_on_axis_of(other) && column.is_on_axis_of(one))
        };
        let (wanted_row, wanted_column) = match () {
            () if across(Left, Feet) => (Left, Feet),
            () if across(Left, Posterior) => (Left, Posterior),
            () => (Posterior, Feet),
        };
        let transpose = !row.is_on_axis_of(wanted_row);
        let (row, column) = match transpose {
            true => (column, row),
            false => (row, column),
        };
        Turn {
            transpose,
            mirror: row != wanted_row,
            upend: column != wanted_column,
        }
    }
}

/// The row and the column vector of Image Orientation (Patient).
fn vectors(numbers: &[f64]) -> Result<([f64; 3], [f64; 3]), OrientationError> {
    let &[a, b, c, d, e, f] = numbers else {
        return Err(OrientationError::NotPerpendicular);
    };
    let is_near = |value: f64, wanted: f64| (value - wanted).abs() < 0.01;
    let lengths = [a * a + b * b + c * c, d * d + e * e + f * f];
    let are_units = lengths.iter().all(|length| is_near(*length, 1.0));
    match are_units && is_near(a * d + b * e + c * f, 0.0) {
        true => Ok(([a, b, c], [d, e, f])),
        false => Err(OrientationError::NotPerpendicular),
    }
}

/// The directions of Patient Orientation, of each its main letter; `None` when it is absent.
fn letters(text: &str) -> Result<Option<(Direction, Direction)>, OrientationError> {
    let Some((row, column)) = text.split_once('\\') else {
        return match text {
            "" => Ok(None),
            _ => Err(OrientationError::NotDirections),
        };
    };
    let (row, column) = (row.trim(), column.trim());
    if row.is_empty() && column.is_empty() {
        return Ok(None);
    }
    match (main(row), main(column)) {
        (Some(row), Some(column)) if !row.is_on_axis_of(column) => Ok(Some((row, column))),
        _ => Err(OrientationError::NotDirections),
    }
}

/// The main direction of a word of one to three letters, each of another axis.
fn main(word: &str) -> Option<Direction> {
    let directions: Option<Vec<_>> = word.chars().map(Direction::from_letter).collect();
    let directions = directions?;
    let is_new = |(at, direction): (usize, &Direction)| {
        directions
            .iter()
            .take(at)
            .all(|other| !direction.is_on_axis_of(*other))
    };
    let first = directions.first().copied()?;
    directions.iter().enumerate().all(is_new).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body as seen in the usual view from the front, marked by what lies in each corner.
    fn stored(row: Direction, column: Direction) -> Vec<(Direction, Direction)> {
        // Top left, top right, bottom left, bottom right of a picture of 2 x 2, by where each pixel lies.
        let (start_row, start_column) = (row.opposite(), column.opposite());
        [
            (start_row, start_column),
            (row, start_column),
            (start_row, column),
            (row, column),
        ]
        .to_vec()
    }

    fn is_same_corner(a: (Direction, Direction), b: (Direction, Direction)) -> bool {
        a == b || (a.1, a.0) == b
    }

    #[test]
    fn every_one_of_the_24_ways_to_lie_ends_in_the_usual_view() {
        use Direction::*;
        let all = [Anterior, Posterior, Left, Right, Head, Feet];
        let mut tried = 0;
        for row in all {
            for column in all {
                if row.is_on_axis_of(column) {
                    continue;
                }
                tried += 1;
                let orientation = Orientation {
                    directions: Some((row, column)),
                    side: None,
                };
                let turned = orientation.turn().apply(&stored(row, column), 2, 2);
                let has = |axis: Direction| row.is_on_axis_of(axis) || column.is_on_axis_of(axis);
                let wanted = match (has(Left), has(Head)) {
                    (true, true) => stored(Left, Feet),
                    (true, false) => stored(Left, Posterior),
                    (false, _) => stored(Posterior, Feet),
                };
                for (found, wanted) in turned.into_iter().zip(wanted) {
                    assert!(is_same_corner(found, wanted), "{row:?} {column:?}");
                }
            }
        }
        assert_eq!(tried, 24);
    }

    #[test]
    fn vectors_and_letters_name_the_same_directions() {
        use Direction::*;
        let directions = |numbers| {
            let (row, column) = vectors(numbers).expect("a pair");
            let across = Direction::of_vector(row, None);
            (across, Direction::of_vector(column, Some(across)))
        };
        let axial = directions(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(Some(axial), letters("L\\P").expect("a pair"));
        let oblique = directions(&[0.0, 0.98, -0.199, 0.0, -0.199, -0.98]);
        assert_eq!(oblique, (Posterior, Feet));
        let half = 0.5_f64.sqrt();
        let diagonal = directions(&[half, half, 0.0, -half, half, 0.0]);
        assert_eq!(diagonal, (Left, Posterior));
        assert_eq!(letters("RPF\\FAL").expect("a pair"), Some((Right, Feet)));
        assert_eq!(letters("\\").expect("empty"), None);
    }

    #[test]
    fn what_is_no_orientation_is_refused() {
        assert!(vectors(&[1.0, 0.0, 0.0]).is_err());
        assert!(vectors(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]).is_err());
        assert!(vectors(&[2.0, 0.0, 0.0, 0.0, 1.0, 0.0]).is_err());
        assert!(letters("L").is_err());
        assert!(letters("L\\R").is_err());
        assert!(letters("X\\F").is_err());
        assert!(letters("LE\\F").is_err());
        assert!(letters("LR\\F").is_err());
    }
}
