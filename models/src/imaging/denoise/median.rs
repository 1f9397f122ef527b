//! The median of the square around each pixel: takes single wrong pixels away, keeps edges.

use crate::imaging::picture::Plane;

/// Replaces each pixel by the median of the square that reaches `radius` pixels to each side; the
/// edge repeats.
pub(super) fn filter(plane: Plane, radius: usize) -> Vec<f32> {
    let reach = radius as isize;
    let mut square = Vec::with_capacity((2 * radius + 1).pow(2));
    plane.each(|row, column| {
        square.clear();
        for near in row - reach..=row + reach {
            square.extend((column - reach..=column + reach).map(|at| plane.at(near, at)));
        }
        let middle = square.len() / 2;
        *square.select_nth_unstable_by(middle, f32::total_cmp).1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_wrong_pixel_vanishes_and_an_edge_stays() {
        let mut values = vec![0.0; 8 * 6];
        values.chunks_mut(8).for_each(|row| row[4..].fill(1.0));
        let clean = values.clone();
        values[8 + 1] = 1.0;
        values[3 * 8 + 6] = 0.0;
        let plane = Plane {
            values: &values,
            width: 8,
            height: 6,
        };
        assert_eq!(filter(plane, 1), clean);
    }

    #[test]
    fn the_median_of_a_corner_counts_the_repeated_edge() {
        let plane = Plane {
            values: &[0.1, 0.2, 0.3, 0.4],
            width: 2,
            height: 2,
        };
        // The square around the first pixel: 0.1 four times, 0.2 twice, 0.3 twice, 0.4 once.
        assert_eq!(filter(plane, 1)[0], 0.2);
    }
}
