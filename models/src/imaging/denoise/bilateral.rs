//! A weighted mean of near pixels of like grey (Tomasi and Manduchi 1998): smooths areas, keeps
//! edges.

use crate::imaging::picture::Plane;

/// The weights of a square around a pixel.
pub(super) struct Kernel {
    reach: isize,
    spatial: Vec<f32>,
    range: f32,
}

impl Kernel {
    /// `radius` and `spatial_deviation` in pixels, `range_deviation` in grey values of 0 to 1.
    pub(super) fn new(radius: usize, spatial_deviation: f32, range_deviation: f32) -> Self {
        let reach = radius as isize;
        let squares = |row: isize| (-reach..=reach).map(move |column| row * row + column * column);
        let weight = |square: isize| (-(square as f32) / (2.0 * spatial_deviation.powi(2))).exp();
        let spatial = (-reach..=reach).flat_map(squares).map(weight).collect();
        Self {
            reach,
            spatial,
            range: 1.0 / (2.0 * range_deviation.powi(2)),
        }
    }

    /// Replaces each pixel by its weighted mean; the edge repeats.
    pub(super) fn filter(&self, plane: Plane) -> Vec<f32> {
        let square = || -self.reach..=self.reach;
        plane.each(|row, column| {
            let centre = plane.at(row, column);
            let (mut sum, mut weights) = (0.0, 0.0);
            let places = square().flat_map(|down| square().map(move |right| (down, right)));
            for ((down, right), spatial) in places.zip(&self.spatial) {
                let pixel = plane.at(row + down, column + right);
                let weight = spatial * (-(pixel - centre).powi(2) * self.range).exp();
                sum += weight * pixel;
                weights += weight;
            }
            // The pixel itself weighs 1, so the sum of weights is never 0.
            sum / weights
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_stays_and_noise_shrinks() {
        let mut values = vec![0.0; 12 * 6];
        for (at, value) in values.iter_mut().enumerate() {
            let noise = if (at / 12 + at % 12) % 2 == 0 {
                0.02
            } else {
                -0.02
            };
            *value = if at % 12 < 6 { 0.2 } else { 0.8 } + noise;
        }
        let plane = Plane {
            values: &values,
            width: 12,
            height: 6,
        };
        let smooth = Kernel::new(2, 2.0, 0.1).filter(plane);
        for (at, value) in smooth.iter().enumerate() {
            let expected = if at % 12 < 6 { 0.2 } else { 0.8 };
            assert!((value - expected).abs() < 0.01, "{at}: {value}");
        }
    }

    #[test]
    fn a_wide_range_makes_it_a_plain_blur() {
        let plane = Plane {
            values: &[0.0, 0.0, 1.0, 0.0, 0.0],
            width: 5,
            height: 1,
        };
        let blurred = Kernel::new(1, 1.0, 1e6).filter(plane);
        let side = (-0.5_f32).exp();
        assert!(
            (blurred[2] - 1.0 / (1.0 + 2.0 * side)).abs() < 1e-5,
            "{}",
            blurred[2]
        );
        assert!(
            (blurred[1] - side / (1.0 + 2.0 * side)).abs() < 1e-5,
            "{}",
            blurred[1]
        );
    }
}
