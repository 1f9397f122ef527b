//! The figures of pictures and notes that drift is looked for in, and edges for them that are nobody's data.

use consilium_models::{
    imaging::Picture,
    text::{Cleaned, words},
};

use crate::quality::plane::Plane;

/// Mean and deviation of the grey values (0 to 1), sharpness (a logarithm), width and height in pixels.
pub fn picture_figures(picture: &Picture) -> [(&'static str, f64); 5] {
    let plane = Plane::of(picture);
    let (mean, deviation) = plane.moments();
    [
        ("mean", mean),
        ("deviation", deviation),
        ("sharpness", plane.sharpness().unwrap_or(f64::NAN)),
        ("width", plane.width as f64),
        ("height", plane.height as f64),
    ]
}

/// Number of words and the share of them that nobody knows; that share is missing without words.
/// `is_known` gets words in lower case, in the normal form of the cleaned text.
pub fn note_figures(text: &str, is_known: impl Fn(&str) -> bool) -> [(&'static str, f64); 2] {
    let text = Cleaned::new(text).text().to_lowercase();
    let (mut count, mut unknown) = (0.0, 0.0);
    for word in words(&text).iter().filter_map(|span| span.of(&text)) {
        if word.chars().any(char::is_alphabetic) {
            count += 1.0;
            unknown += f64::from(u8::from(!is_known(word)));
        }
    }
    [("words", count), ("unknown words", unknown / count)]
}

/// Edges for a figure of pictures or notes that were chosen without looking at any data, so a
/// histogram with them may leave once it is noised. None for columns: their edges are the plan's.
pub fn public_edges(feature: &str) -> Option<Vec<f64>> {
    let steps = |count: i32, width: f64| (1..count).map(|at| f64::from(at) * width).collect();
    let doublings = |from: i32, to: i32| (from..=to).map(|power| 2_f64.powi(power)).collect();
    match feature {
        "mean" => Some(steps(20, 0.05)),
        "deviation" => Some(steps(20, 0.025)),
        "sharpness" => Some((-20..=6).map(|at| f64::from(at) / 2.0).collect()),
        "width" | "height" => Some(doublings(5, 13)),
        "words" => Some(doublings(2, 14)),
        "unknown words" => Some(steps(20, 0.05)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::drift::Histogram;

    #[test]
    fn a_picture_has_figures_and_one_pixel_has_no_sharpness() {
        let board = (0..64).map(|at| ((at + at / 8) % 2) as f32).collect();
        let board = Picture::new(8, 8, 1, board).expect("a picture");
        let [mean, deviation, sharpness, width, height] = picture_figures(&board).map(|(_, x)| x);
        assert_eq!((mean, deviation, width, height), (0.5, 0.5, 8.0, 8.0));
        // The Laplacian is ±4 where the picture deviates by 0.5: ln(16 / 0.25).
        assert!((sharpness - 64_f64.ln()).abs() < 1e-6, "{sharpness}");
        let pixel = Picture::new(1, 1, 1, vec![0.5]).expect("a pixel");
        assert!(picture_figures(&pixel)[2].1.is_nan());
    }

    #[test]
    fn a_note_has_words_and_some_are_unknown() {
        let figures = note_figures("Fever, 38.5 fever qzx 咳", |word| word != "qzx");
        assert_eq!(figures, [("words", 4.0), ("unknown words", 0.25)]);
        let [words, unknown] = note_figures("...", |_| true).map(|(_, figure)| figure);
        assert!(words == 0.0 && unknown.is_nan());
    }

    #[test]
    fn every_figure_has_public_edges() {
        let pixel = Picture::new(1, 1, 1, vec![0.5]).expect("a pixel");
        let names = picture_figures(&pixel).map(|(name, _)| name);
        for name in names
            .into_iter()
            .chain(note_figures("", |_| true).map(|(name, _)| name))
        {
            let edges = public_edges(name).expect("edges");
            assert!(Histogram::new(edges).is_ok(), "{name}");
        }
        assert_eq!(public_edges("age"), None);
    }
}
