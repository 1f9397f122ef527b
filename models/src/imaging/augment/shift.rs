//! Moves by whole pixels.

use crate::imaging::picture::Plane;

/// Moves a plane down and to the right (or up and left, below 0); the edge repeats.
pub(super) fn shift(plane: Plane, down: isize, right: isize) -> Vec<f32> {
    plane.each(|row, column| plane.at(row - down, column - right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_fills_what_the_move_leaves_open() {
        let plane = Plane {
            values: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            width: 3,
            height: 2,
        };
        assert_eq!(shift(plane, 0, 1), [1.0, 1.0, 2.0, 4.0, 4.0, 5.0]);
        assert_eq!(shift(plane, -1, 0), [4.0, 5.0, 6.0, 4.0, 5.0, 6.0]);
    }
}
