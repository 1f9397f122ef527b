//! Suspects text that is burnt into a picture, by what all burnt-in text has in common.
//!
//! Strokes are thin, far brighter or darker than what lies around them, and all of one grey; letters
//! are as high as their neighbours, stand on one line and close together. So: take what a
//! morphological opening with a square removes (top-hat: structures thinner than the square), keep
//! where it is strong, cut that into connected pieces, keep pieces of a letter's size, and look for
//! pieces that follow each other on a line. Near the upper or lower edge, where devices write, fewer
//! are enough.
//!
//! It is a rule of thumb that holds a picture back until somebody has looked: it misses
//! handwriting, slanted, soft or very large text, and grids can deceive it. It says how many signs it
//! saw, never what they say.

use super::plane::Plane;

/// Sides below this hold no legible text.
const LEAST_SIDE: usize = 64;
/// Half the side of the square of the opening: strokes of up to twice as many pixels are thin.
const REACH: usize = 3;
/// How much brighter than its surroundings a stroke is, of 1.
const CONTRAST: f32 = 0.3;
/// Pixels of height that a sign has at least.
const LEAST_HEIGHT: usize = 5;
/// A sign is at most one in so many of the picture's height.
const MOST_HEIGHT: usize = 6;
/// Signs in a row that make a line near an edge, and anywhere else.
const LEAST_SIGNS: (usize, usize) = (4, 6);
/// More candidates than this are a texture.
const MOST_SIGNS: usize = 20_000;

/// Signs that stand in lines, the greater number of bright ones on dark and dark ones on bright; 0
/// where nothing looks like text.
pub(super) fn signs(plane: &Plane) -> usize {
    if plane.width < LEAST_SIDE || plane.height < LEAST_SIDE {
        return 0;
    }
    let inverse = Plane {
        width: plane.width,
        height: plane.height,
        values: plane.values.iter().map(|value| 1.0 - value).collect(),
    };
    bright_signs(plane).max(bright_signs(&inverse))
}

fn bright_signs(plane: &Plane) -> usize {
    let background = opened(plane);
    let strokes = plane.values.iter().zip(background);
    let strokes = strokes
        .map(|(value, around)| value - around > CONTRAST)
        .collect();
    let mut signs = pieces(plane, strokes);
    let most = plane.height / MOST_HEIGHT;
    signs.retain(|sign| sign.is_like_a_letter(most));
    if signs.len() > MOST_SIGNS {
        return 0;
    }
    signs_in_lines(signs, plane.height)
}

/// Least value within the square, then the largest of these (van Herk 1992 in its simplest form: the
/// square is small, so each line is just read once for each of its places).
fn opened(plane: &Plane) -> Vec<f32> {
    let least = slide(&plane.values, plane.width, f32::min);
    slide(&least, plane.width, f32::max)
}

/// Folds each pixel with its neighbours up to [`REACH`] away, along rows and then along columns.
fn slide(values: &[f32], width: usize, fold: fn(f32, f32) -> f32) -> Vec<f32> {
    let mut wide = values.to_vec();
    for (row, wide) in values.chunks_exact(width).zip(wide.chunks_exact_mut(width)) {
        for step in 1..=REACH.min(width - 1) {
            let (later, earlier) = (&row[step..], &row[..width - step]);
            for (value, &other) in wide.iter_mut().zip(later) {
                *value = fold(*value, other);
            }
            for (value, &other) in wide[step..].iter_mut().zip(earlier) {
                *value = fold(*value, other);
            }
        }
    }
    let mut both = wide.clone();
    for step in 1..=REACH {
        let step = step * width;
        let Some(later) = wide.get(step..) else {
            break;
        };
        for (value, &other) in both.iter_mut().zip(later) {
            *value = fold(*value, other);
        }
        for (value, &other) in both[step..].iter_mut().zip(&wide) {
            *value = fold(*value, other);
        }
    }
    both
}

/// A connected piece of strokes.
struct Sign {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
    area: usize,
    /// Its brightest pixel.
    grey: f32,
}

impl Sign {
    fn height(&self) -> usize {
        self.bottom - self.top + 1
    }

    fn width(&self) -> usize {
        self.right - self.left + 1
    }

    fn is_like_a_letter(&self, most: usize) -> bool {
        let (height, width) = (self.height(), self.width());
        let is_high = (LEAST_HEIGHT..=most).contains(&height);
        // Letters may touch: a short word can be one piece.
        let is_wide = width <= 4 * height;
        let filled = self.area as f64 / (height * width) as f64;
        is_high && is_wide && (0.15..=0.98).contains(&filled)
    }

    /// Whether the other one can be the next letter of the line.
    fn goes_on_with(&self, other: &Self) -> bool {
        let height = self.height().max(other.height());
        let gap = other.left.saturating_sub(self.right);
        let is_beside = other.left > self.left && gap <= height + height / 2;
        let is_as_high = 5 * self.height().min(other.height()) >= 3 * height;
        // Either feet or heads are level: letters with descenders keep one of them.
        let is_level = self.bottom.abs_diff(other.bottom) * 6 <= height
            || self.top.abs_diff(other.top) * 6 <= height;
        is_beside && is_as_high && is_level && (self.grey - other.grey).abs() < 0.1
    }
}

/// Cuts strokes into connected pieces (8 neighbours).
fn pieces(plane: &Plane, mut strokes: Vec<bool>) -> Vec<Sign> {
    let (width, height) = (plane.width, plane.height);
    let mut pieces = Vec::new();
    let mut open = Vec::new();
    for start in 0..strokes.len() {
        if !std::mem::take(&mut strokes[start]) {
            continue;
        }
        let (x, y) = (start % width, start / width);
        let mut sign = Sign {
            left: x,
            right: x,
            top: y,
            bottom: y,
            area: 0,
            grey: 0.0,
        };
        open.push((x, y));
        while let Some((x, y)) = open.pop() {
            sign.left = sign.left.min(x);
            sign.right = sign.right.max(x);
            sign.bottom = sign.bottom.max(y);
            sign.top = sign.top.min(y);
            sign.area += 1;
            sign.grey = sign.grey.max(plane.values[y * width + x]);
            for y in y.saturating_sub(1)..=(y + 1).min(height - 1) {
                for x in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                    if std::mem::take(&mut strokes[y * width + x]) {
                        open.push((x, y));
                    }
                }
            }
        }
        pieces.push(sign);
    }
    pieces
}

/// Signs of all lines that are long enough. Each sign goes on with the nearest one that fits.
fn signs_in_lines(mut signs: Vec<Sign>, height: usize) -> usize {
    signs.sort_by_key(|sign| (sign.left, sign.top));
    // For each sign, how many stand in its line up to it; whether another one goes on from it.
    let mut lengths = vec![1; signs.len()];
    let mut has_next = vec![false; signs.len()];
    for at in 0..signs.len() {
        let sign = &signs[at];
        // A sign that fits is at most 5/3 as high, and at most 3/2 of that away.
        let reach = sign.right + 3 * sign.height();
        let after = signs.iter().enumerate().skip(at + 1);
        let mut near = after.take_while(|(_, next)| next.left <= reach);
        if let Some((next, _)) = near.find(|(_, next)| sign.goes_on_with(next)) {
            has_next[at] = true;
            lengths[next] = lengths[next].max(lengths[at] + 1);
        }
    }
    let is_near_edge = |sign: &Sign| sign.bottom * 6 < height || sign.top * 6 > height * 5;
    let ends = (0..signs.len()).filter(|&at| !has_next[at]);
    ends.map(|at| (lengths[at], is_near_edge(&signs[at])))
        .filter(|&(length, near)| length >= if near { LEAST_SIGNS.0 } else { LEAST_SIGNS.1 })
        .map(|(length, _)| length)
        .sum()
}

#[cfg(test)]
mod tests {
    use consilium_models::random::Random;

    use super::*;

    /// Digits of 3 × 5, each row three bits.
    const DIGITS: [[u8; 5]; 10] = [
        [7, 5, 5, 5, 7],
        [2, 6, 2, 2, 7],
        [7, 1, 7, 4, 7],
        [7, 1, 7, 1, 7],
        [5, 5, 7, 1, 1],
        [7, 4, 7, 1, 7],
        [7, 4, 7, 5, 7],
        [7, 1, 2, 2, 2],
        [7, 5, 7, 5, 7],
        [7, 5, 7, 1, 7],
    ];

    /// Soft shapes and a little noise.
    fn soft(side: usize, seed: u64) -> Plane {
        let mut random = Random::new(&[seed]);
        let (a, b) = (random.unit(), random.unit());
        let value = |at: usize| {
            let (x, y) = (
                (at % side) as f32 / side as f32,
                (at / side) as f32 / side as f32,
            );
            let wave = ((3.0 + a) * x * 3.0).sin() * ((2.0 + b) * y * 4.0).cos();
            (0.4 + 0.2 * wave + 0.02 * random.symmetric(1.0)).clamp(0.0, 1.0)
        };
        Plane {
            width: side,
            height: side,
            values: (0..side * side).map(value).collect(),
        }
    }

    fn write(plane: &mut Plane, left: usize, top: usize, scale: usize, digits: &[u8], grey: f32) {
        for (place, &digit) in digits.iter().enumerate() {
            for (row, bits) in DIGITS[usize::from(digit)].iter().enumerate() {
                for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                    for (dy, dx) in (0..scale * scale).map(|at| (at / scale, at % scale)) {
                        let x = left + scale * (4 * place + column) + dx;
                        let y = top + scale * row + dy;
                        plane.values[y * plane.width + x] = grey;
                    }
                }
            }
        }
    }

    #[test]
    fn a_line_of_digits_is_seen_bright_or_dark_and_soft_shapes_are_not() {
        for seed in 0..10 {
            let mut picture = soft(160, seed);
            assert_eq!(signs(&picture), 0, "{seed}");
            let grey = if seed % 2 == 0 { 1.0 } else { 0.0 };
            write(&mut picture, 8, 6, 2, &[1, 9, 5, 2, 0, 7], grey);
            assert!((4..=6).contains(&signs(&picture)), "{seed}");
        }
    }

    #[test]
    fn few_signs_or_signs_without_a_line_are_no_text() {
        let mut picture = soft(160, 1);
        write(&mut picture, 8, 6, 2, &[3, 4], 1.0);
        for (left, top) in [(30, 60), (60, 90), (100, 40), (120, 130), (20, 130)] {
            write(&mut picture, left, top, 2, &[8], 1.0);
        }
        assert_eq!(signs(&picture), 0);
    }

    #[test]
    fn noise_grids_and_tiny_pictures_are_no_text_and_end() {
        let mut random = Random::new(&[5]);
        let mut noise = soft(200, 2);
        noise.values.fill_with(|| random.unit());
        assert_eq!(signs(&noise), 0);
        let mut grid = soft(200, 2);
        for at in 0..grid.values.len() {
            if at % 200 % 20 == 0 || at / 200 % 20 == 0 {
                grid.values[at] = 1.0;
            }
        }
        assert_eq!(signs(&grid), 0);
        let tiny = Plane {
            width: 1,
            height: 1,
            values: vec![1.0],
        };
        assert_eq!(signs(&tiny), 0);
    }
}
