//! What a network's last convolution saw in a picture: where a class comes from, and how usual the picture is.

use super::{Body, Network, NetworkError, Tape, Weights, tape::SeenMaps};

/// Numbers over a picture, row by row; a coarse grid that covers all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `[height][width]`
    pub values: Vec<f32>,
}

impl Network {
    /// Where a picture speaks for a class, by Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): the maps of the
    /// last convolution, each weighted by its mean gradient at the class's score, added, what is below zero
    /// left out. None of a network without convolutions, or on a device.
    ///
    /// # Errors
    /// An input that does not make one example, a class that is none.
    pub fn class_map(
        &self,
        weights: &Weights,
        input: &[f32],
        class: usize,
    ) -> Result<Option<Heat>, NetworkError> {
        let classes = self.objective.scores();
        if class >= classes {
            let expected = format!("a class below {classes}");
            return Err(NetworkError::Target { expected });
        }
        let mut gradient = vec![0.0; classes];
        gradient[class] = 1.0;
        let Some(maps) = self.maps_of(weights, input, Some(gradient))? else {
            return Ok(None);
        };
        let [_, height, width] = maps.shape;
        let plane = height * width;
        let mut values = vec![0.0; plane];
        let planes = maps.values.chunks(plane).zip(maps.gradient.chunks(plane));
        for (map, gradient) in planes {
            let weight = gradient.iter().sum::<f32>() / plane as f32;
            let terms = values.iter_mut().zip(map);
            terms.for_each(|(value, seen)| *value += weight * seen);
        }
        values.iter_mut().for_each(|value| *value = value.max(0.0));
        Ok(Some(Heat {
            height,
            width,
            values,
        }))
    }

    /// The mean of each map of the last convolution: what a picture is to the network. Nothing of a network
    /// without convolutions, or on a device.
    ///
    /// # Errors
    /// An input that does not make one example.
    pub fn map_means(&self, weights: &Weights, input: &[f32]) -> Result<Vec<f32>, NetworkError> {
        let Some(maps) = self.maps_of(weights, input, None)? else {
            return Ok(Vec::new());
        };
        let plane = maps.shape[1] * maps.shape[2];
        let planes = maps.values.chunks(plane);
        Ok(planes
            .map(|map| map.iter().sum::<f32>() / plane as f32)
            .collect())
    }

    /// The maps of one example, with the gradient there if one is given at the scores.
    fn maps_of(
        &self,
        weights: &Weights,
        input: &[f32],
        gradient: Option<Vec<f32>>,
    ) -> Result<Option<SeenMaps>, NetworkError> {
        if input.len() != self.inputs {
            return Err(NetworkError::InputLength {
                expected: self.inputs,
                found: input.len(),
            });
        }
        let Body::Layers(architecture) = &self.body else {
            return Ok(None);
        };
        if weights.on_device().is_some() {
            return Ok(None);
        }
        let mut tape = match gradient {
            Some(_) => Tape::recording(weights, 1),
            None => Tape::off(weights, 1),
        };
        let output = self.forward(architecture.as_ref(), input, &mut tape);
        Ok(tape.seen_maps(&output, gradient))
    }
}
