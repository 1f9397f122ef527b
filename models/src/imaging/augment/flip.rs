//! Mirror images.

use consilium_proto::plan::Flip;

use crate::imaging::picture::Plane;

/// Exchanges left and right, or top and bottom.
pub(super) fn mirror(plane: Plane, axis: Flip) -> Vec<f32> {
    let rows = plane.values.chunks_exact(plane.width);
    match axis {
        Flip::Horizontal => rows.flat_map(|row| row.iter().rev()).copied().collect(),
        Flip::Vertical => rows.rev().flatten().copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_change_places_and_a_second_mirror_brings_them_back() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let plane = Plane {
            values: &values,
            width: 3,
            height: 2,
        };
        assert_eq!(
            mirror(plane, Flip::Horizontal),
            [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]
        );
        assert_eq!(
            mirror(plane, Flip::Vertical),
            [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]
        );
        let once = mirror(plane, Flip::Horizontal);
        assert_eq!(
            mirror(
                Plane {
                    values: &once,
                    ..plane
                },
                Flip::Horizontal
            ),
            values
        );
    }
}
