//! A text as one vector: which words and short runs of words are in it, and how often.
//!
//! What linear classifiers read. Features are words and, if asked for, runs of neighbouring words; in Chinese,
//! which does not separate words, characters and their runs. Each counts by the root of how often it is there
//! and goes to a bucket by its hash with a sign by the same hash (Weinberger et al. 2009,
//! arXiv:0902.2206), so that features that meet cancel as often as they add up; all vectors have the same length,
//! which bounds what one text can add to a gradient. Nothing is learnt from the texts, so that every site gets
//! the same vector.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Span,
    features::{Buckets, hash},
    language::is_cjk,
    sentences::sentences,
    words::{Filter, words},
};

/// Length of a vector. The input of a bias is 1: beside it this is long, so that what a text says has most of the
/// gradient's norm, which clipping cuts, and steps that suit its words do not make the bias swing.
const LENGTH: f64 = 4.0;

/// Turns texts into vectors.
#[derive(Debug, Clone)]
pub struct Bag {
    buckets: Buckets,
    neighbours: usize,
    letters: usize,
    first_sentence: usize,
}

impl Bag {
    /// Vectors of as many numbers as there are buckets, of whole words alone.
    pub fn new(buckets: Buckets) -> Self {
        Self {
            buckets,
            neighbours: 1,
            letters: 0,
            first_sentence: 1,
        }
    }

    /// Up to so many neighbouring words, or Chinese characters, count as one too.
    pub fn with_neighbours(self, neighbours: usize) -> Self {
        Self { neighbours, ..self }
    }

    /// Only so many first letters of a word count: what its ending changes is the same then. 0 is all.
    pub fn with_letters(self, letters: usize) -> Self {
        Self { letters, ..self }
    }

    /// What the first sentence says, often a title, counts so many times.
    pub fn with_first_sentence(self, times: usize) -> Self {
        Self {
            first_sentence: times,
            ..self
        }
    }

    /// The vector of a text: length 4, or all 0 where no word counts.
    pub fn of(&self, text: &str, filter: Filter) -> Vec<f32> {
        let words = filter.apply(text, words(text));
        let title = sentences(text).first().map_or(0, |first| first.end);
        let mut vector = vec![0.0; self.buckets.count()];
        for (feature, times) in self.count(text, &words, title) {
            let sign = if feature & 1 == 0 { 1.0 } else { -1.0 };
            if let Some(value) = vector.get_mut(self.buckets.bucket(feature) as usize) {
                *value += sign * (times as f32).sqrt();
            }
        }
        normalise(&mut vector);
        vector
    }

    /// How often each feature is in a text. In the order of hashes, so that sums come out the same
    /// everywhere, to the last bit.
    fn count(&self, text: &str, words: &[Span], title: usize) -> BTreeMap<u64, u32> {
        let mut counts = BTreeMap::new();
        // The last few words up to here that may be neighbours of the next.
        let mut run: VecDeque<String> = VecDeque::new();
        let (mut was_chinese, mut end) = (false, 0);
        for &span in words {
            let Some(word) = span.of(text).filter(|word| !word.is_empty()) else {
                continue;
            };
            let is_chinese = word.chars().all(is_cjk);
            // Words may have a space or what was left out between them, characters nothing.
            if is_chinese != was_chinese || is_chinese && span.start != end {
                run.clear();
            }
            (was_chinese, end) = (is_chinese, span.end);
            if run.len() == self.neighbours {
                run.pop_front();
            }
            let small = word.to_lowercase();
            run.push_back(match self.letters {
                0 => small,
                letters => small.chars().take(letters).collect(),
            });
            let times = match span.end <= title {
                true => self.first_sentence,
                false => 1,
            };
            let mut together = String::new();
            for word in run.iter().rev() {
                if !is_chinese && !together.is_empty() {
                    together.insert(0, ' ');
                }
                together.insert_str(0, word);
                let count = counts.entry(hash(b'b', &together)).or_insert(0_u32);
                *count = count.saturating_add(times as u32);
            }
        }
        counts
    }
}

/// Brings a vector to the length that all have; one of zeros stays as it is.
pub(super) fn normalise(vector: &mut [f32]) {
    let squares: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
    if squares > 0.0 {
        let factor = LENGTH / squares.sqrt();
        for value in vector {
            *value = (f64::from(*value) * factor) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Filter = Filter {
        stop_words: false,
        punctuation: false,
    };
    const NO_SIGNS: Filter = Filter {
        stop_words: false,
        punctuation: true,
    };

    fn bag(buckets: usize) -> Bag {
        Bag::new(Buckets::at_most(buckets)).with_neighbours(2)
    }

    /// Different features of a text, with up to so many neighbours as one.
    fn features(neighbours: usize, text: &str) -> usize {
        let bag = bag(1).with_neighbours(neighbours);
        let words = NO_SIGNS.apply(text, words(text));
        bag.count(text, &words, 0).len()
    }

    /// Of vectors as if their length were 1.
    fn product(a: &[f32], b: &[f32]) -> f32 {
        let product: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
        product / (LENGTH * LENGTH) as f32
    }

    #[test]
    fn words_characters_and_their_neighbours_are_features() {
        assert_eq!(features(1, "acute renal failure"), 3);
        assert_eq!(features(2, "acute renal failure"), 3 + 2);
        assert_eq!(features(3, "acute renal failure"), 3 + 2 + 1);
        assert_eq!(features(2, "Acute acute"), 1 + 1);
        assert_eq!(features(3, "急性肺炎"), 4 + 3 + 2);
        assert_eq!(features(3, "急性，肺炎"), 4 + 2, "no run goes over a sign");
        assert_eq!(features(3, "查CT示"), 3);
        assert_eq!(features(2, ""), 0);
    }

    #[test]
    fn texts_that_share_words_are_near_each_other() {
        let bag = bag(1 << 14);
        let [one, like, other] = [
            "acute renal failure",
            "Renal failure acute",
            "left hip fracture",
        ]
        .map(|text| bag.of(text, NO_SIGNS));
        let near = product(&one, &like);
        assert!(near > 0.5 && near < 0.99, "{near}");
        assert!(product(&one, &other).abs() < 0.05);
        let same = product(&bag.of("反复咳嗽三天", ALL), &bag.of("咳嗽三天", ALL));
        assert!(same > 0.6, "{same}");
    }

    #[test]
    fn what_is_there_often_counts_by_its_root_and_the_title_counts_more() {
        let bag = Bag::new(Buckets::at_most(1 << 16));
        let of = |vector: &[f32], word: &str| {
            vector[bag.buckets.bucket(hash(b'b', word)) as usize].abs()
        };
        let vector = bag.of("fever cough fever fever fever", ALL);
        assert!((of(&vector, "fever") / of(&vector, "cough") - 2.0).abs() < 1e-5);
        let titled = bag.clone().with_first_sentence(9);
        let vector = titled.of("Fever. A cough.", ALL);
        assert!((of(&vector, "fever") / of(&vector, "cough") - 3.0).abs() < 1e-5);
    }

    #[test]
    fn words_that_begin_alike_are_one_if_asked() {
        let stems = Bag::new(Buckets::at_most(1 << 16)).with_letters(5);
        let (one, other) = (stems.of("infected", ALL), stems.of("infection", ALL));
        assert!((product(&one, &other) - 1.0).abs() < 1e-6);
        let whole = Bag::new(Buckets::at_most(1 << 16));
        let (one, other) = (whole.of("infected", ALL), whole.of("infection", ALL));
        assert!(product(&one, &other).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn any_text_has_a_vector_of_the_same_length_or_none(
            text in "[a-cA-C 一-丈é，.]{0,30}", other in any::<String>(), buckets in 1..2_000_usize,
        ) {
            let bag = bag(buckets).with_letters(3).with_first_sentence(4);
            for vector in [bag.of(&text, ALL), bag.of(&other, NO_SIGNS)] {
                prop_assert_eq!(vector.len(), buckets);
                let length = product(&vector, &vector);
                prop_assert!(length == 0.0 || (length - 1.0).abs() < 1e-4);
            }
        }
    }
}
