//! Pairs of entities, and what is known of a pair without a hidden layer.

use std::collections::BTreeMap;

use consilium_proto::plan::{Pair, Within};

use crate::text::{
    Argument, Entity, Note, Span,
    bag::normalise,
    features::{Buckets, hash},
    sentences::sentences,
    words::words,
};

/// Two things of a note between which there may be a relation, each with its mentions.
#[derive(Clone, PartialEq, Eq)]
pub struct Candidate {
    /// From which.
    pub from: Thing,
    /// To which.
    pub to: Thing,
}

/// Mentions of one thing.
#[derive(Clone, PartialEq, Eq)]
pub struct Thing {
    /// Its concept, where the pair is one of concepts.
    pub code: Option<String>,
    /// Places in the note's list of entities, one or more, ascending.
    pub mentions: Vec<usize>,
}

/// Written by hand: what is mentioned is patient data.
impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Candidate")
    }
}

/// Written by hand: what is mentioned is patient data.
impl std::fmt::Debug for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Thing({} mentions)", self.mentions.len())
    }
}

/// Most pairs of one note: a note of thousands of entities does not fill the memory.
const MOST: usize = 10_000;

/// All pairs that a plan asks for, in the order of their first mentions.
pub(super) fn candidates(note: &Note, pair: &Pair) -> Vec<Candidate> {
    let pairs: Vec<Candidate> = match pair.within {
        Within::Note => {
            let (from, to) = (concepts(note, &pair.from), concepts(note, &pair.to));
            let each = from.iter().flat_map(|from| {
                to.iter().map(|to| Candidate {
                    from: from.clone(),
                    to: to.clone(),
                })
            });
            each.filter(|pair| pair.from != pair.to)
                .take(MOST)
                .collect()
        }
        Within::Sentence => {
            let sentences = sentences(&note.text);
            let of_kind = |kind: &str| -> Vec<(usize, usize)> {
                let entities = note.entities.iter().enumerate();
                entities
                    .filter(|(_, entity)| entity.kind == kind)
                    .map(|(at, entity)| (at, sentence_of(&sentences, entity.span)))
                    .collect()
            };
            let (from, to) = (of_kind(&pair.from), of_kind(&pair.to));
            let mention = |at| Thing {
                code: None,
                mentions: vec![at],
            };
            let each = from.iter().flat_map(|&(from, at)| {
                let near = to
                    .iter()
                    .filter(move |&&(to, sentence)| sentence == at && to != from);
                near.map(move |&(to, _)| Candidate {
                    from: mention(from),
                    to: mention(to),
                })
            });
            each.take(MOST).collect()
        }
    };
    pairs
}

/// The concepts of one kind, each with its mentions. A mention that names several counts for each; one without
/// a code stands for what it says.
fn concepts(note: &Note, kind: &str) -> Vec<Thing> {
    let mut found: Vec<Thing> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (at, entity) in note.entities.iter().enumerate() {
        if entity.kind != kind {
            continue;
        }
        for code in codes(note, entity) {
            let place = *places.entry(code.clone()).or_insert_with(|| {
                found.push(Thing {
                    code: Some(code),
                    mentions: Vec::new(),
                });
                found.len() - 1
            });
            found[place].mentions.push(at);
        }
    }
    found
}

fn codes(note: &Note, entity: &Entity) -> Vec<String> {
    match &entity.code {
        Some(code) => code.split('|').map(str::to_owned).collect(),
        None => vec![
            entity
                .span
                .of(&note.text)
                .unwrap_or_default()
                .to_lowercase(),
        ],
    }
}

fn sentence_of(sentences: &[Span], span: Span) -> usize {
    sentences
        .partition_point(|sentence| sentence.end <= span.start)
        .min(sentences.len().saturating_sub(1))
}

impl Thing {
    fn is(&self, argument: &Argument, note: &Note) -> bool {
        match (argument, &self.code) {
            (Argument::Mention(at), _) => self.mentions.contains(at),
            (Argument::Concept(code), Some(own)) => code.split('|').any(|code| code == own),
            (Argument::Concept(code), None) => self.mentions.iter().any(|&at| {
                let entity = note.entities.get(at);
                entity.is_some_and(|entity| entity.code.as_deref() == Some(code))
            }),
        }
    }

    fn spans<'a>(&'a self, note: &'a Note) -> impl Iterator<Item = Span> + 'a {
        self.mentions
            .iter()
            .filter_map(|&at| note.entities.get(at).map(|entity| entity.span))
    }
}

impl Candidate {
    /// What the note says that they have to do with each other; `none` where it says nothing.
    pub fn kind_in(&self, note: &Note, none: &str) -> String {
        let relation = note
            .relations
            .iter()
            .find(|relation| self.from.is(&relation.from, note) && self.to.is(&relation.to, note));
        relation.map_or(none, |relation| &relation.kind).to_owned()
    }

    /// The two mentions that are nearest to each other, from and to.
    pub fn nearest(&self, note: &Note) -> [Span; 2] {
        let gap = |from: Span, to: Span| {
            from.start.max(to.start) - from.end.min(to.end).min(from.start.max(to.start))
        };
        let mut best = [Span::new(0, 0); 2];
        let mut least = usize::MAX;
        for from in self.from.spans(note) {
            for to in self.to.spans(note) {
                let gap = gap(from, to);
                if gap < least {
                    (best, least) = ([from, to], gap);
                }
            }
        }
        best
    }
}

/// Weight of a word beside what is known of places and counts.
const WORD: f32 = 0.5;
/// First letters of a word that count where its ending should not.
const STEM: usize = 6;
/// Most sentences that name both whose words count.
const SHARED: usize = 6;

/// What is known of a pair: where and how often its things are mentioned, and the words around and between.
/// Each of these is hashed to a place of the vector, with a sign; the vector is as long as that of a bag.
pub(super) fn vector(note: &Note, pair: &Candidate, buckets: Buckets) -> Vec<f32> {
    let mut features = Features {
        buckets,
        vector: vec![0.0; buckets.count()],
    };
    let text = &note.text;
    let sentences = sentences(text);
    let at = |span: Span| sentence_of(&sentences, span);
    let of = |thing: &Thing| -> Vec<usize> { thing.spans(note).map(at).collect() };
    let (from, to) = (of(&pair.from), of(&pair.to));
    let [left, right] = pair.nearest(note);
    let apart = at(left).abs_diff(at(right));
    features.says("apart", apart.min(4));
    let mut shared: Vec<usize> = from.iter().filter(|at| to.contains(at)).copied().collect();
    shared.dedup();
    features.says("shared", shared.len().min(4));
    let titles = [&from, &to].map(|places| places.contains(&0));
    features.says("title", usize::from(titles[0]) + 2 * usize::from(titles[1]));
    let ranks = [(&pair.from, &from, 6), (&pair.to, &to, 8)].map(|(thing, places, most)| {
        let kind = thing
            .mentions
            .first()
            .and_then(|&at| note.entities.get(at))
            .map_or("", |entity| &entity.kind);
        let others = concepts(note, kind);
        let more = others
            .iter()
            .filter(|other| other.mentions.len() > places.len());
        let rank = more.count().min(4);
        let name = |what: &str| format!("{what} {}", most);
        features.says(&name("mentions"), places.len().min(6));
        features.says(&name("rank"), rank);
        features.says(&name("things"), others.len().min(most));
        features.says(&name("first"), places.first().copied().unwrap_or(0).min(4));
        let late = places
            .last()
            .is_some_and(|last| last + 2 >= sentences.len());
        features.says(&name("late"), usize::from(late));
        rank.min(2)
    });
    features.says("ranks", 3 * ranks[0] + ranks[1]);

    let stem = |word: &str| -> String { word.to_lowercase().chars().take(STEM).collect() };
    let words_in = |span: Span| -> Vec<&str> {
        let part = span.of(text).unwrap_or_default();
        words(part)
            .into_iter()
            .filter_map(|word| word.of(part))
            .collect()
    };
    for (name, thing) in [("from", &pair.from), ("to", &pair.to)] {
        for span in thing.spans(note) {
            let after = Span::new(
                span.end,
                sentences.get(at(span)).map_or(span.end, |s| s.end),
            );
            if let Some(word) = words_in(after).first() {
                features.has(name, "after", &stem(word));
            }
        }
    }
    if let Some(span) = pair.to.spans(note).next()
        && let Some(word) = words_in(span).last()
    {
        features.has("to", "name", &stem(word));
    }
    let shared = shared.iter().filter_map(|&at| sentences.get(at));
    for &sentence in shared.take(SHARED) {
        for word in words_in(sentence) {
            features.has("both", "sentence", &stem(word));
        }
    }
    if apart == 0 {
        let is_turned = right.start < left.start;
        let [first, second] = if is_turned {
            [right, left]
        } else {
            [left, right]
        };
        features.says("turned", usize::from(is_turned));
        let between = Span::new(first.end.min(second.start), second.start);
        let gap = between.len().max(1).ilog2() as usize;
        features.says("gap", gap);
        let inner = words_in(between);
        features.says("between", inner.len().min(12));
        if inner.len() <= 4 {
            let line = inner.join(" ").to_lowercase();
            features.has(
                "between",
                if is_turned { "turned line" } else { "line" },
                &line,
            );
        }
        for word in &inner {
            features.has("between", "word", &word.to_lowercase());
            features.has("between", "stem", &stem(word));
        }
        for pair in inner.windows(2) {
            features.has("between", "pair", &pair.join(" ").to_lowercase());
        }
        let sentence = sentences.get(at(first)).copied().unwrap_or(between);
        let before = words_in(Span::new(sentence.start.min(first.start), first.start));
        let after = words_in(Span::new(second.end, sentence.end.max(second.end)));
        for word in before.iter().rev().take(2) {
            features.has("around", "before", &stem(word));
        }
        for word in after.iter().take(2) {
            features.has("around", "after", &stem(word));
        }
    }
    features.into_vector()
}

/// A vector that fills up.
struct Features {
    buckets: Buckets,
    vector: Vec<f32>,
}

impl Features {
    /// Something that is counted.
    fn says(&mut self, what: &str, number: usize) {
        self.add(&format!("{what}\t{number}"), 1.0);
    }

    /// A word at some place.
    fn has(&mut self, of: &str, place: &str, word: &str) {
        self.add(&format!("{of}\t{place}\t{word}"), WORD);
    }

    fn add(&mut self, feature: &str, weight: f32) {
        let hash = hash(b'p', feature);
        let sign = if hash & 1 == 0 { weight } else { -weight };
        let place = self.buckets.bucket(hash) as usize;
        if let Some(value) = self.vector.get_mut(place) {
            // Said twice is no more than said: but for features that meet, each counts once.
            *value = sign;
        }
    }

    fn into_vector(mut self) -> Vec<f32> {
        normalise(&mut self.vector);
        self.vector
    }
}
