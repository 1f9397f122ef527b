//! A chest X-ray drawn from a few numbers: body, lungs, heart, spine, ribs, diaphragm, vessels, and
//! an opacity where there is pneumonia.
//!
//! Coordinates run from 0 (left, top) to 1 (right, bottom) of the picture, which shows the patient
//! from the front: the patient's right lung is on the left. Grey runs from 0 (air) to 1 (bone).

use consilium_models::random::Random;
use image::{GrayImage, Luma};

/// Rows and columns of a picture.
pub(super) const SIDE: usize = 28;

/// What there is to be seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Finding {
    /// Nothing.
    Normal,
    /// A clouded part of a lung.
    Pneumonia(Opacity),
}

/// A lung, as the patient would say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// A third of a lung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Upper,
    Middle,
    Lower,
}

/// A clouded part of a lung: dense in the middle, soft at its edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Opacity {
    pub(super) side: Side,
    pub(super) level: Level,
    x: f32,
    y: f32,
    radius: f32,
    /// Grey added at its centre.
    density: f32,
}

impl Opacity {
    pub(super) const PLACES: [(Side, Level); 6] = [
        (Side::Left, Level::Upper),
        (Side::Left, Level::Middle),
        (Side::Left, Level::Lower),
        (Side::Right, Level::Upper),
        (Side::Right, Level::Middle),
        (Side::Right, Level::Lower),
    ];

    pub(super) fn draw(side: Side, level: Level, random: &mut Random) -> Self {
        let height = match level {
            Level::Upper => 0.27,
            Level::Middle => 0.45,
            Level::Lower => 0.63,
        };
        Self {
            side,
            level,
            x: side.centre() + random.symmetric(0.06),
            y: height + random.symmetric(0.06),
            radius: 0.20 + random.symmetric(0.05),
            density: 0.50 + random.symmetric(0.15),
        }
    }

    /// Whether a careful reader would call it faint.
    pub(super) fn is_faint(&self) -> bool {
        self.density < 0.45
    }
}

impl Side {
    fn centre(self) -> f32 {
        match self {
            Self::Left => 0.71,
            Self::Right => 0.29,
        }
    }
}

/// What a scanner makes of the grey values.
pub(super) struct Scanner {
    /// Factor about the middle grey.
    pub(super) contrast: f32,
    /// Added afterwards.
    pub(super) brightness: f32,
    /// Deviation of the noise of each pixel.
    pub(super) noise: f32,
}

/// The build of one patient.
#[derive(Debug, Clone)]
pub(super) struct Chest {
    x: f32,
    y: f32,
    lung_width: f32,
    lung_height: f32,
    heart: f32,
    rib_phase: f32,
    rib_spacing: f32,
    soft_tissue: f32,
    vessels: Vec<(f32, f32, f32)>,
}

impl Chest {
    pub(super) fn draw(random: &mut Random) -> Self {
        let vessels = (0..6)
            .map(|index| {
                let side = if index % 2 == 0 {
                    Side::Left
                } else {
                    Side::Right
                };
                let x = side.centre() + random.symmetric(0.09);
                (
                    x,
                    0.47 + random.symmetric(0.22),
                    0.05 + 0.07 * random.unit(),
                )
            })
            .collect();
        Self {
            x: random.symmetric(0.03),
            y: random.symmetric(0.03),
            lung_width: 0.155 + random.symmetric(0.02),
            lung_height: 0.33 + random.symmetric(0.03),
            heart: 0.13 + random.symmetric(0.03),
            rib_phase: random.unit(),
            rib_spacing: 0.125 + random.symmetric(0.015),
            soft_tissue: 0.10 * random.unit(),
            vessels,
        }
    }

    /// The same chest, moved and filled a little differently.
    pub(super) fn breathe(&self, random: &mut Random) -> Self {
        Self {
            x: self.x + random.symmetric(0.02),
            y: self.y + random.symmetric(0.02),
            lung_height: self.lung_height + random.symmetric(0.02),
            ..self.clone()
        }
    }

    /// The picture that a scanner takes.
    pub(super) fn image(
        &self,
        finding: &Finding,
        scanner: &Scanner,
        random: &mut Random,
    ) -> GrayImage {
        GrayImage::from_fn(SIDE as u32, SIDE as u32, |column, row| {
            let place = |index: u32| (index as f32 + 0.5) / SIDE as f32;
            let grey = self.grey(finding, place(column) - self.x, place(row) - self.y);
            let grey = (grey - 0.5) * scanner.contrast + 0.5 + scanner.brightness;
            let grey = grey + scanner.noise * bell(random);
            Luma([(grey.clamp(0.0, 1.0) * 255.0 + 0.5) as u8])
        })
    }

    /// Grey of the body at a place, before any scanner.
    fn grey(&self, finding: &Finding, x: f32, y: f32) -> f32 {
        let body = edge(disc(x, y, (0.5, 0.55), (0.49, 0.75)));
        let lungs: f32 = [Side::Left, Side::Right]
            .map(|side| {
                let size = (self.lung_width, self.lung_height);
                edge(disc(x, y, (side.centre(), 0.46), size))
            })
            .iter()
            .sum();
        let heart = edge(disc(x, y, (0.57, 0.62), (self.heart, 0.17)));
        let spine = edge(1.0 - square((x - 0.5) / 0.05));
        let diaphragm = edge((y - 0.80 + 0.10 * square((x - 0.5) / 0.3).min(1.0)) * 8.0);
        // Ribs slope away from the spine.
        let phase = (y + 0.25 * square(x - 0.5)) / self.rib_spacing + self.rib_phase;
        let rib = edge((phase - phase.floor() - 0.5).abs() - 0.28);
        let vessels: f32 = self
            .vessels
            .iter()
            .map(|&(at_x, at_y, density)| density * edge(disc(x, y, (at_x, at_y), (0.04, 0.06))))
            .sum();
        let soft_tissue = self.soft_tissue * ((y - 0.45) / 0.35).clamp(0.0, 1.0);
        let opacity = match finding {
            Finding::Normal => 0.0,
            Finding::Pneumonia(Opacity {
                x: at_x,
                y: at_y,
                radius,
                density,
                ..
            }) => density * disc(x, y, (*at_x, *at_y), (*radius, 1.2 * radius)).max(0.0),
        };
        let lung = 0.20 + 0.16 * rib + vessels + soft_tissue + opacity;
        let tissue = 0.62 + 0.12 * spine;
        let chest = tissue + (lung - tissue) * lungs.min(1.0);
        let chest = chest + (0.70 - chest) * heart.max(diaphragm);
        body * chest
    }
}

/// 1 at the centre of an ellipse, 0 on it, below 0 outside.
fn disc(x: f32, y: f32, centre: (f32, f32), radius: (f32, f32)) -> f32 {
    1.0 - square((x - centre.0) / radius.0) - square((y - centre.1) / radius.1)
}

/// From 0 outside to 1 inside, over a soft edge.
fn edge(depth: f32) -> f32 {
    (3.0 * depth).clamp(0.0, 1.0)
}

fn square(value: f32) -> f32 {
    value * value
}

/// A number of deviation 1 and nearly normal law: the sum of three uniform ones.
fn bell(random: &mut Random) -> f32 {
    random.symmetric(1.0) + random.symmetric(1.0) + random.symmetric(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opacity_brightens_its_lung_and_nothing_else() {
        let mut random = Random::new(&[5]);
        let chest = Chest::draw(&mut random);
        for (side, level) in Opacity::PLACES {
            let finding = Finding::Pneumonia(Opacity::draw(side, level, &mut random));
            let added = |from: f32, to: f32| -> f32 {
                let places = (0..400).map(|index| (index % 20, index / 20));
                places
                    .map(|(x, y)| (from + (to - from) * x as f32 / 20.0, y as f32 / 20.0))
                    .map(|(x, y)| chest.grey(&finding, x, y) - chest.grey(&Finding::Normal, x, y))
                    .sum()
            };
            let (left, right) = (added(0.55, 1.0), added(0.0, 0.45));
            let (with, without) = if side == Side::Left {
                (left, right)
            } else {
                (right, left)
            };
            assert!(with > 0.3, "{side:?} {level:?}: {with}");
            assert!(without.abs() < 1e-4, "{side:?} {level:?}: {without}");
        }
    }
}
