//! What a check looks at in pictures: one by one, and each against all others.

use std::collections::BTreeMap;

use consilium_models::imaging::Picture;
use consilium_proto::Digest;

use super::{
    Settings, burned_in, copies,
    fingerprint::{CELLS, Fingerprint},
    near,
    plane::Plane,
    records::Records,
    report::{Findings, Kind},
};

/// Grey values that differ by less than 2 of 255 are one grey.
const FLAT: f32 = 1.99 / 255.0;
/// What is not above this is black: 8 of 255, so that noise and compression do not light a border.
const BLACK: f32 = 8.0 / 255.0;
/// Share of the area from which a border is most of the picture.
const MOST_BORDER: f64 = 0.5;
/// What is not below this is white.
const WHITE: f32 = 254.5 / 255.0;
/// Share of white pixels from which a picture is saturated.
const MOST_WHITE: f64 = 0.25;
/// Range between the 1st and the 99th of 100 grey values below which contrast is low.
const LEAST_RANGE: f64 = 0.15;
/// Robust deviations below the median from which a picture is blurred.
const MOST_BLUR: f64 = 3.5;
/// Correlation with the mean picture below which a picture may be inverted.
const INVERTED: f64 = -0.3;
/// Mean correlation of a set below which its pictures are too different for one to stand out.
const ALIKE: f64 = 0.3;
/// Pictures from which a set has a median and a mean to stand out from.
const FEW: usize = 20;

/// The pictures looked at so far.
#[derive(Default)]
pub(super) struct Pictures {
    seen: Vec<Seen>,
}

/// What stays of a picture.
struct Seen {
    record: usize,
    size: (usize, usize),
    channels: usize,
    bits: Option<u8>,
    digest: Digest,
    /// None for one grey.
    fingerprint: Option<Fingerprint>,
    sharpness: Option<f64>,
}

impl Pictures {
    /// Looks at one picture, of the bits that each of its values had in the file.
    pub(super) fn add(
        &mut self,
        record: usize,
        picture: &Picture,
        bits: Option<u8>,
        records: &Records,
        findings: &mut Findings,
    ) {
        let plane = Plane::of(picture);
        let greys = Greys::of(&plane);
        let mut found = |kind, measure| findings.add(kind, [records.place(record)], measure, "");
        let is_flat = greys.most - greys.least < FLAT;
        if is_flat {
            found(Kind::Empty, f64::from(greys.most - greys.least));
        } else {
            let border = plane.border(BLACK);
            if border > MOST_BORDER {
                found(Kind::BlackBorder, border);
            }
            if greys.white > MOST_WHITE {
                found(Kind::Saturated, greys.white);
            }
            if greys.range < LEAST_RANGE {
                found(Kind::LowContrast, greys.range);
            }
            let signs = burned_in::signs(&plane);
            if signs > 0 {
                found(Kind::BurnedInText, signs as f64);
            }
        }
        self.seen.push(Seen {
            record,
            size: (picture.width(), picture.height()),
            channels: picture.channels(),
            bits,
            digest: digest(picture),
            fingerprint: (!is_flat).then(|| Fingerprint::of(&plane)),
            sharpness: plane.sharpness(),
        });
    }

    /// Looks at what only shows beside the others.
    pub(super) fn finish(&self, settings: &Settings, records: &Records, findings: &mut Findings) {
        self.sizes(settings, records, findings);
        self.depths(settings, records, findings);
        self.blurred(records, findings);
        self.inverted(records, findings);
        self.copies(records, findings);
    }

    fn sizes(&self, settings: &Settings, records: &Records, findings: &mut Findings) {
        let usual = settings
            .size
            .or_else(|| majority(self.seen.iter().map(|seen| seen.size)));
        let Some((width, height)) = usual else {
            return;
        };
        for seen in self.seen.iter().filter(|seen| seen.size != (width, height)) {
            let (found_width, found_height) = seen.size;
            let detail = format!("{found_width} x {found_height} instead of {width} x {height}");
            let pixels = found_width as f64 * found_height as f64;
            let place = [records.place(seen.record)];
            findings.add(Kind::OtherSize, place, pixels, detail);
        }
    }

    fn depths(&self, settings: &Settings, records: &Records, findings: &mut Findings) {
        let usual_channels = settings
            .channels
            .or_else(|| majority(self.seen.iter().map(|seen| seen.channels)));
        let usual_bits = settings
            .bits
            .or_else(|| majority(self.seen.iter().filter_map(|seen| seen.bits)));
        for seen in &self.seen {
            let has_channels = usual_channels.is_none_or(|usual| usual == seen.channels);
            let bits = seen.bits.zip(usual_bits);
            if has_channels && bits.is_none_or(|(bits, usual)| bits == usual) {
                continue;
            }
            let mut detail = Vec::new();
            if let Some(usual) = usual_channels.filter(|_| !has_channels) {
                detail.push(format!("{} channels instead of {usual}", seen.channels));
            }
            if let Some((bits, usual)) = bits.filter(|(bits, usual)| bits != usual) {
                detail.push(format!("{bits} bits instead of {usual}"));
            }
            let all = seen.channels * usize::from(seen.bits.unwrap_or(8));
            let place = [records.place(seen.record)];
            findings.add(Kind::OtherDepth, place, all as f64, detail.join(", "));
        }
    }

    /// Sharpness depends on what is shown and how large it is, so it is judged against the set: by its
    /// distance from the median in median absolute deviations, scaled as in Iglewicz and Hoaglin 1993.
    fn blurred(&self, records: &Records, findings: &mut Findings) {
        let mut values: Vec<f64> = self.seen.iter().filter_map(|seen| seen.sharpness).collect();
        if values.len() < FEW {
            return;
        }
        let centre = median(&mut values);
        let mut distances: Vec<f64> = values.iter().map(|value| (value - centre).abs()).collect();
        let deviation = 1.4826 * median(&mut distances);
        if deviation <= 0.0 {
            return;
        }
        for seen in &self.seen {
            let below = seen.sharpness.map(|value| (centre - value) / deviation);
            if let Some(below) = below.filter(|&below| below > MOST_BLUR) {
                findings.add(Kind::Blurred, [records.place(seen.record)], below, "");
            }
        }
    }

    /// Pictures of one body part correlate with their mean; the negative of one does so negatively.
    fn inverted(&self, records: &Records, findings: &mut Findings) {
        let judged = self.seen.iter();
        let judged: Vec<(usize, &Fingerprint)> = judged
            .filter_map(|seen| Some((seen.record, seen.fingerprint.as_ref()?)))
            .collect();
        let count = judged.len();
        if count < FEW {
            return;
        }
        let mut mean = [0.0; CELLS];
        for (_, fingerprint) in &judged {
            for (sum, cell) in mean.iter_mut().zip(fingerprint.cells()) {
                *sum += cell / count as f64;
            }
        }
        let norm = mean.iter().map(|cell| cell * cell).sum::<f64>().sqrt();
        let correlation = |fingerprint: &Fingerprint| {
            let (mut product, mut squares) = (0.0, 0.0);
            for (cell, mean) in fingerprint.cells().zip(&mean) {
                product += cell * mean;
                squares += cell * cell;
            }
            product / (norm * squares.sqrt()).max(f64::MIN_POSITIVE)
        };
        let correlations: Vec<(usize, f64)> = judged
            .iter()
            .map(|&(record, fingerprint)| (record, correlation(fingerprint)))
            .collect();
        let all: f64 = correlations.iter().map(|(_, value)| value).sum();
        if all / (count as f64) < ALIKE {
            return;
        }
        for &(record, value) in correlations.iter().filter(|(_, value)| *value < INVERTED) {
            findings.add(Kind::Inverted, [records.place(record)], value, "");
        }
    }

    fn copies(&self, records: &Records, findings: &mut Findings) {
        let judged = self.seen.iter().enumerate();
        let judged = judged.filter_map(|(at, seen)| Some((at, seen, seen.fingerprint.as_ref()?)));
        // Equal pixels first; of each content, one is compared with the others.
        let mut equal = copies::by_content(judged.map(|(at, seen, _)| (at, seen.digest)));
        let firsts = equal
            .iter()
            .filter_map(|members| self.seen.get(*members.first()?));
        let fingerprints: Vec<Fingerprint> =
            firsts.filter_map(|seen| seen.fingerprint.clone()).collect();
        for member in equal.iter_mut().flatten() {
            *member = self.seen[*member].record;
        }
        let nearly = near::groups(&fingerprints);
        copies::report(&equal, &nearly, records, findings);
    }
}

/// Grey values of a picture, counted.
struct Greys {
    least: f32,
    most: f32,
    /// Share that is white.
    white: f64,
    /// Between the 1st and the 99th of 100.
    range: f64,
}

impl Greys {
    fn of(plane: &Plane) -> Self {
        let (mut least, mut most, mut white) = (1.0_f32, 0.0_f32, 0_usize);
        let mut counts = [0_usize; 256];
        for &value in &plane.values {
            least = least.min(value);
            most = most.max(value);
            white += usize::from(value >= WHITE);
            // Casts of floats saturate.
            counts[usize::from((value * 255.0) as u8)] += 1;
        }
        let total = plane.values.len();
        let quantile = |share: f64| {
            let wanted = share * total as f64;
            let mut below = 0;
            let place = counts.iter().position(|&count| {
                below += count;
                below as f64 >= wanted
            });
            place.unwrap_or(255) as f64 / 255.0
        };
        Self {
            least,
            most,
            white: white as f64 / total as f64,
            range: quantile(0.99) - quantile(0.01),
        }
    }
}

/// Digest of form and pixels, to 16 bits each: the same however the file is compressed.
fn digest(picture: &Picture) -> Digest {
    let form = [picture.width(), picture.height(), picture.channels()];
    let mut bytes = Vec::with_capacity(2 * picture.pixels().len() + 24);
    bytes.extend(form.iter().flat_map(|&side| (side as u64).to_le_bytes()));
    let to_16_bits = |value: &f32| ((value * 65535.0).round() as u16).to_le_bytes();
    bytes.extend(picture.pixels().iter().flat_map(to_16_bits));
    Digest::plain(&bytes)
}

/// What more than half of all are.
fn majority<T: Copy + Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    let mut all = 0;
    for value in values {
        *counts.entry(value).or_default() += 1;
        all += 1;
    }
    let most = counts.into_iter().max_by_key(|&(_, count)| count);
    most.filter(|(_, count)| 2 * count > all)
        .map(|(value, _)| value)
}

/// The middle of some values; 0 of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
