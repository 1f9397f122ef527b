//! Flips and quarter turns of a picture.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the eight ways to lay a rectangle: first rows and columns are exchanged, then the picture is
/// mirrored left to right, then upended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Turn {
    /// Rows become columns.
    pub transpose: bool,
    /// The first column becomes the last.
    pub mirror: bool,
    /// The first row becomes the last.
    pub upend: bool,
}

impl Turn {
    /// Whether nothing is turned.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Turns one channel of a picture; its sides are exchanged if rows become columns.
    pub(super) fn apply<T: Copy>(&self, plane: &[T], width: usize, height: usize) -> Vec<T> {
        let (across, down) = match self.transpose {
            true => (height, width),
            false => (width, height),
        };
        let place = |at: usize| {
            let (row, column) = (at / across.max(1), at % across.max(1));
            let row = if self.upend { down - 1 - row } else { row };
            let column = if self.mirror {
                across - 1 - column
            } else {
                column
            };
            match self.transpose {
                true => column * width + row,
                false => row * width + column,
            }
        };
        let whole = 0..plane.len().min(width * height);
        whole
            .filter_map(|at| plane.get(place(at)).copied())
            .collect()
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.transpose, self.mirror, self.upend) {
            (false, false, false) => "as stored",
            (false, true, false) => "mirrored left to right",
            (false, false, true) => "mirrored top to bottom",
            (false, true, true) => "turned by 180 degrees",
            (true, false, false) => "mirrored on the diagonal",
            (true, true, false) => "turned by 90 degrees clockwise",
            (true, false, true) => "turned by 90 degrees counter-clockwise",
            (true, true, true) => "mirrored on the other diagonal",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_move_pixels_as_their_names_say() {
        let plane = [1, 2, 3, 4, 5, 6];
        let turned = |transpose, mirror, upend| {
            let turn = Turn {
                transpose,
                mirror,
                upend,
            };
            (turn.to_string(), turn.apply(&plane, 3, 2))
        };
        let expect = |name: &str, plane: [i32; 6]| (name.to_owned(), plane.to_vec());
        assert_eq!(
            turned(false, true, false),
            expect("mirrored left to right", [3, 2, 1, 6, 5, 4])
        );
        assert_eq!(
            turned(false, false, true),
            expect("mirrored top to bottom", [4, 5, 6, 1, 2, 3])
        );
        assert_eq!(
            turned(true, true, false),
            expect("turned by 90 degrees clockwise", [4, 1, 5, 2, 6, 3])
        );
        assert_eq!(
            turned(true, false, true),
            expect("turned by 90 degrees counter-clockwise", [3, 6, 2, 5, 1, 4])
        );
        assert_eq!(
            turned(true, false, false),
            expect("mirrored on the diagonal", [1, 4, 2, 5, 3, 6])
        );
    }
}
