//! Where in a picture a class comes from, and whether the answer says what the model does.
//!
//! Two answers that know nothing of each other: Grad-CAM looks into the network, occlusion (Zeiler and Fergus
//! 2014, arXiv:1311.2901) only at what it says. Beside each stands what happens to the probability when the
//! places it names are taken away first, or given back first (Petsiuk et al. 2018, arXiv:1806.07421): a good
//! answer makes it fall early and rise early.

use super::{ImageModel, PredictionError};
pub use crate::network::Heat;

/// Cells along each side of the grid that occlusion covers a picture with.
const GRID: usize = 14;

/// Cells that are taken away or given back between two looks.
const STEP: usize = 7;

/// Why a model says a class of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// By Grad-CAM; none of a network without convolutions.
    pub class_map: Option<Scored>,
    /// By occlusion: how much of the probability goes when a cell is covered; below zero where it grows.
    pub occlusion: Scored,
}

/// A heat map, and how faithful it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The map.
    pub heat: Heat,
    /// Mean probability while the hottest cells are covered one after the other: 0 to 1, low is good.
    pub deletion: f32,
    /// Mean probability while the hottest cells are given back one after the other: 0 to 1, high is good.
    pub insertion: f32,
}

impl ImageModel {
    /// Why the model says this class of a picture. `input` is [its](Self::input).
    ///
    /// # Errors
    /// A class that is none, a network that fails.
    pub fn explain(&self, input: &[f32], class: usize) -> Result<Explanation, PredictionError> {
        let covers = Covers::over(self.preprocess.size());
        let class_map = self.network.class_map(&self.weights, input, class)?;
        let occlusion = self.occlusion(input, class, &covers)?;
        Ok(Explanation {
            class_map: class_map
                .map(|heat| self.scored(input, class, &covers, heat))
                .transpose()?,
            occlusion: self.scored(input, class, &covers, occlusion)?,
        })
    }

    fn occlusion(
        &self,
        input: &[f32],
        class: usize,
        covers: &Covers,
    ) -> Result<Heat, PredictionError> {
        let whole = self.chance(&[input.to_vec()], class)?[0];
        let covered = |cell| covers.cover(input, &[cell]);
        let inputs: Vec<Vec<f32>> = (0..covers.cells()).map(covered).collect();
        let chances = self.chance(&inputs, class)?;
        Ok(Heat {
            height: covers.rows,
            width: covers.columns,
            values: chances.into_iter().map(|chance| whole - chance).collect(),
        })
    }

    fn scored(
        &self,
        input: &[f32],
        class: usize,
        covers: &Covers,
        heat: Heat,
    ) -> Result<Scored, PredictionError> {
        let mut cells: Vec<usize> = (0..covers.cells()).collect();
        let heats: Vec<f32> = cells.iter().map(|&cell| covers.heat(&heat, cell)).collect();
        cells.sort_by(|&one, &other| heats[other].total_cmp(&heats[one]));
        let ends: Vec<usize> = (0..=cells.len())
            .step_by(STEP)
            .chain([cells.len()])
            .collect();
        let mean = |inputs: Vec<Vec<f32>>| -> Result<f32, PredictionError> {
            let chances = self.chance(&inputs, class)?;
            Ok(chances.iter().sum::<f32>() / chances.len().max(1) as f32)
        };
        let deleted = ends.iter().map(|&end| covers.cover(input, &cells[..end]));
        let inserted = ends.iter().map(|&end| covers.cover(input, &cells[end..]));
        Ok(Scored {
            deletion: mean(deleted.collect())?,
            insertion: mean(inserted.collect())?,
            heat,
        })
    }

    /// The probability of a class for each input, as the network gives it.
    fn chance(&self, inputs: &[Vec<f32>], class: usize) -> Result<Vec<f32>, PredictionError> {
        let rows = self.probabilities(inputs)?;
        let chance = |row: Vec<f32>| row.get(class).copied().unwrap_or(0.0);
        Ok(rows.into_iter().map(chance).collect())
    }
}

/// A grid over a network's input.
struct Covers {
    /// Channels, height, width of the input.
    shape: [usize; 3],
    rows: usize,
    columns: usize,
}

impl Covers {
    fn over(shape: [usize; 3]) -> Self {
        let [_, height, width] = shape;
        Self {
            shape,
            rows: GRID.min(height),
            columns: GRID.min(width),
        }
    }

    fn cells(&self) -> usize {
        self.rows * self.columns
    }

    /// The cell of a pixel.
    fn cell(&self, row: usize, column: usize) -> usize {
        let [_, height, width] = self.shape;
        row * self.rows / height * self.columns + column * self.columns / width
    }

    /// The input with some cells covered by the mean of their channel.
    fn cover(&self, input: &[f32], cells: &[usize]) -> Vec<f32> {
        let [_, height, width] = self.shape;
        let mut is_covered = vec![false; self.cells()];
        cells.iter().for_each(|&cell| is_covered[cell] = true);
        let mut covered = input.to_vec();
        for plane in covered.chunks_mut(height * width) {
            let mean = plane.iter().sum::<f32>() / plane.len() as f32;
            for (at, value) in plane.iter_mut().enumerate() {
                if is_covered[self.cell(at / width, at % width)] {
                    *value = mean;
                }
            }
        }
        covered
    }

    /// What a map says of a cell: its value at the cell's middle.
    fn heat(&self, heat: &Heat, cell: usize) -> f32 {
        let middle = |at: usize, of: usize, length: usize| (2 * at + 1) * length / (2 * of);
        let row = middle(cell / self.columns, self.rows, heat.height);
        let column = middle(cell % self.columns, self.columns, heat.width);
        heat.values
            .get(row * heat.width + column)
            .copied()
            .unwrap_or(0.0)
    }
}
