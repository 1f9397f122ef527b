//! Windows of words or pieces, in order.

use std::{cmp::Reverse, ops::Range};

use consilium_proto::plan::TextInput;

use super::{Example, tags::tags_of};
use crate::{
    network::Target,
    text::{
        Note, Span,
        alphabet::{Alphabet, RESERVED},
        cleaning::Cleaned,
        features::{Buckets, word_features},
        vocabulary::Vocabulary,
        words::words,
    },
};

/// Cuts texts into windows.
pub(super) struct Cutter {
    alphabet: Alphabet,
    kind: Kind,
    frame: Option<Frame>,
}

/// What a public encoder has before and behind the pieces of a window.
#[derive(Clone, Copy)]
struct Frame {
    before: f32,
    behind: f32,
}

enum Kind {
    Words(Buckets),
    Pieces(Vocabulary),
}

/// A text in windows.
pub struct Windows {
    alphabet: Alphabet,
    frame: Option<Frame>,
    /// Where each word lies in the text as it is written.
    words: Vec<Span>,
    /// What each word is known by: `[words][slots]`.
    numbers: Vec<f32>,
    /// The words of each window.
    ranges: Vec<Range<usize>>,
}

/// Written by hand: a note is patient data.
impl std::fmt::Debug for Windows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (words, windows) = (self.words.len(), self.ranges.len());
        write!(f, "Windows({words} words in {windows})")
    }
}

impl Cutter {
    /// For a text that is read in order.
    pub(super) fn new(text: &TextInput) -> Self {
        let kind = match text {
            TextInput::Words { buckets, .. } => Kind::Words(Buckets::at_most(*buckets)),
            _ => Kind::Pieces(Vocabulary::shipped()),
        };
        Self {
            alphabet: Alphabet::of(text),
            kind,
            frame: None,
        }
    }

    /// For a public encoder, whose windows begin and end as it has learnt.
    pub(super) fn of_encoder(text: &TextInput, vocabulary: Vocabulary) -> Self {
        let specials = vocabulary.specials();
        Self {
            alphabet: Alphabet::of(text),
            frame: Some(Frame {
                before: specials.class as f32,
                behind: specials.separator as f32,
            }),
            kind: Kind::Pieces(vocabulary),
        }
    }

    /// Numbers of a window.
    pub(super) fn length(&self) -> usize {
        self.alphabet.window * self.alphabet.slots
    }

    /// Overlapping windows over all words; none of a text without words.
    pub(super) fn cut(&self, text: &str) -> Windows {
        let (words, numbers) = self.numbered(text);
        // A plan's window has 8 positions or more.
        let window = self.alphabet.window - if self.frame.is_some() { 2 } else { 0 };
        let step = (window / 2).max(1);
        let starts = (0..words.len()).step_by(step);
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for start in starts {
            let end = (start + window).min(words.len());
            ranges.push(start..end);
            if end == words.len() {
                break;
            }
        }
        Windows {
            alphabet: self.alphabet,
            frame: self.frame,
            words,
            numbers,
            ranges,
        }
    }

    /// The words of a text and what each is known by.
    fn numbered(&self, text: &str) -> (Vec<Span>, Vec<f32>) {
        let cleaned = Cleaned::new(text);
        let text = cleaned.text();
        let (spans, numbers) = match &self.kind {
            Kind::Words(buckets) => {
                let spans = words(text);
                let rows = word_features(text, &spans, *buckets);
                let number = |&feature: &u32| (feature as usize + RESERVED) as f32;
                let numbers = rows.iter().flatten().map(number).collect();
                (spans, numbers)
            }
            Kind::Pieces(vocabulary) => {
                let pieces = vocabulary.pieces(text);
                let numbers = pieces.iter().map(|piece| piece.id as f32).collect();
                (pieces.iter().map(|piece| piece.span).collect(), numbers)
            }
        };
        let spans = spans.into_iter().map(|span| cleaned.original(span));
        (spans.collect(), numbers)
    }

    /// Each window with the tags of its words.
    pub(super) fn tagged(&self, note: &Note, classes: &[String]) -> Vec<Example> {
        let windows = self.cut(&note.text);
        let tags = tags_of(&windows.words, &note.entities, classes);
        let example = |range: &Range<usize>| {
            let mut tags = tags[range.clone()].to_vec();
            if windows.frame.is_some() {
                // What frames a window is outside of all entities.
                tags.insert(0, 0);
                tags.push(0);
            }
            Example {
                input: windows.input(range.clone()),
                target: Target::Tags(tags.into()),
            }
        };
        windows.ranges.iter().map(example).collect()
    }
}

impl Windows {
    /// One window around two entities, a marker before each. Where they are too far apart for a window, it
    /// begins with the first.
    pub(super) fn marked(&self, pair: [Span; 2]) -> Vec<f32> {
        let Alphabet {
            slots,
            window,
            markers,
            ..
        } = self.alphabet;
        let place = |span: Span| self.words.partition_point(|word| word.end <= span.start);
        let [from, to] = pair.map(place);
        let mut marks = [(to, markers[1]), (from, markers[0])];
        marks.sort_by_key(|&(place, _)| place);
        let [(first, before_first), (last, before_last)] = marks;
        let needed = last - first + 2;
        let start = first.saturating_sub(window.saturating_sub(needed) / 2);
        let length = window * slots;
        let mut input = Vec::with_capacity(length);
        let mut add = |numbers: &[f32]| {
            let room = length - input.len();
            input.extend(numbers.iter().take(room));
        };
        let marker = |marker: usize| {
            let mut row = vec![0.0; slots];
            row[0] = marker as f32;
            row
        };
        let numbers = |words: Range<usize>| &self.numbers[words.start * slots..words.end * slots];
        add(numbers(start..first));
        add(&marker(before_first));
        add(numbers(first..last));
        add(&marker(before_last));
        add(numbers(last..self.words.len()));
        input.resize(length, 0.0);
        input
    }

    /// Where each word lies in the text as it is written.
    pub fn words(&self) -> &[Span] {
        &self.words
    }

    /// What the network takes, window after window.
    pub fn inputs(&self) -> impl Iterator<Item = Vec<f32>> {
        self.ranges.iter().map(|range| self.input(range.clone()))
    }

    pub(super) fn into_inputs(self) -> Vec<Vec<f32>> {
        self.inputs().collect()
    }

    fn input(&self, words: Range<usize>) -> Vec<f32> {
        let Alphabet { slots, window, .. } = self.alphabet;
        let mut input = self.numbers[words.start * slots..words.end * slots].to_vec();
        if let Some(Frame { before, behind }) = self.frame {
            input.insert(0, before);
            input.push(behind);
        }
        input.resize(window * slots, 0.0);
        input
    }

    /// Of each word the answers of the window in whose middle it is most. `outputs` holds the answers of
    /// every window, so many numbers for each word of a full one.
    pub(super) fn stitched(&self, outputs: &[f32], numbers: usize) -> Vec<f32> {
        let mut stitched = Vec::with_capacity(self.words.len() * numbers);
        for word in 0..self.words.len() {
            // The windows that hold it: both their starts and their ends ascend.
            let first = self.ranges.partition_point(|range| range.end <= word);
            let last = self.ranges.partition_point(|range| range.start <= word);
            let margin = |&window: &usize| {
                let range = &self.ranges[window];
                // The ends of the text are no edges.
                let before = match range.start {
                    0 => usize::MAX,
                    start => word - start,
                };
                let after = match range.end == self.words.len() {
                    true => usize::MAX,
                    false => range.end - 1 - word,
                };
                (before.min(after), Reverse(window))
            };
            let Some(window) = (first..last).max_by_key(margin) else {
                continue;
            };
            let first = window * self.alphabet.window + usize::from(self.frame.is_some());
            let at = first + word - self.ranges[window].start;
            match outputs.get(at * numbers..(at + 1) * numbers) {
                Some(answers) => stitched.extend_from_slice(answers),
                None => stitched.extend(std::iter::repeat_n(0.0, numbers)),
            }
        }
        stitched
    }
}
