//! Rotation about the centre.

use crate::imaging::picture::Plane;

/// Turns a plane counter-clockwise, interpolating linearly; the edge repeats.
pub(super) fn turn(plane: Plane, degrees: f32) -> Vec<f32> {
    let (sine, cosine) = degrees.to_radians().sin_cos();
    let (middle_row, middle_column) = (
        (plane.height - 1) as f32 / 2.0,
        (plane.width - 1) as f32 / 2.0,
    );
    plane.each(|row, column| {
        let (down, right) = (row as f32 - middle_row, column as f32 - middle_column);
        let from_row = middle_row + cosine * down + sine * right;
        let from_column = middle_column - sine * down + cosine * right;
        between(plane, from_row, from_column)
    })
}

/// The value between four pixels.
fn between(plane: Plane, row: f32, column: f32) -> f32 {
    let (top, left) = (row.floor(), column.floor());
    let (below, beside) = (row - top, column - left);
    let (top, left) = (top as isize, left as isize);
    let along =
        |row: isize| plane.at(row, left) * (1.0 - beside) + plane.at(row, left + 1) * beside;
    along(top) * (1.0 - below) + along(top + 1) * below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_moves_every_corner_on() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let turned = turn(
            Plane {
                values: &values,
                width: 3,
                height: 3,
            },
            90.0,
        );
        let expected = [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0];
        for (found, expected) in turned.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{turned:?}");
        }
    }

    #[test]
    fn no_angle_changes_nothing() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(
            turn(
                Plane {
                    values: &values,
                    width: 3,
                    height: 2
                },
                0.0
            ),
            values
        );
    }
}
