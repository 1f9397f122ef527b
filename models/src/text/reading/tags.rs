//! Tags of words, from entities and back: first word, further words, outside (Ramshaw and Marcus 1995).

use super::Windows;
use crate::{
    network::most_probable_tags,
    text::{Entity, Span},
};

/// An entity as a network found it.
#[derive(Clone, PartialEq)]
pub struct Mention {
    /// Its place in the plan's list of classes.
    pub class: usize,
    /// From its first word to its last, in the text as it is written.
    pub span: Span,
    /// Mean over its words of the probability of their tags, 0 to 1.
    pub probability: f32,
}

/// Written by hand: where something stands is patient data.
impl std::fmt::Debug for Mention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mention(class {})", self.class)
    }
}

/// The tag of each word: 0 outside, 2k + 1 for the first word of an entity of the k-th class, 2k + 2 for
/// further ones. Of entities that overlap the longest counts, the first of equals; other kinds are outside.
pub fn tags_of(words: &[Span], entities: &[Entity], classes: &[String]) -> Vec<u16> {
    let mut known: Vec<(Span, usize)> = entities
        .iter()
        .filter_map(|entity| {
            let class = classes.iter().position(|class| *class == entity.kind)?;
            Some((entity.span, class))
        })
        .collect();
    known.sort_by_key(|(span, _)| (std::cmp::Reverse(span.len()), span.start));
    let mut tags = vec![0; words.len()];
    for (span, class) in known {
        let first = words.partition_point(|word| word.end <= span.start);
        let last = words.partition_point(|word| word.start < span.end);
        if first >= last || tags[first..last].iter().any(|&tag| tag != 0) {
            continue;
        }
        tags[first] = (2 * class + 1) as u16;
        tags[first + 1..last].fill((2 * class + 2) as u16);
    }
    tags
}

/// What windows' answers say: the most probable tags of which no further word lacks its first one.
pub(super) fn mentions(windows: &Windows, outputs: &[f32], classes: &[String]) -> Vec<Mention> {
    let tags = 2 * classes.len() + 1;
    let probabilities = windows.stitched(outputs, tags);
    let follows = |from: Option<usize>, tag: usize| {
        tag == 0 || tag % 2 == 1 || from == Some(tag) || from == Some(tag - 1)
    };
    let best = most_probable_tags(&probabilities, tags, follows);
    let mut mentions: Vec<(Mention, usize)> = Vec::new();
    for (at, (&tag, &word)) in best.iter().zip(windows.words()).enumerate() {
        let tag = usize::from(tag);
        let probability = probabilities[at * tags + tag];
        match mentions.last_mut() {
            Some((mention, words)) if tag != 0 && tag % 2 == 0 => {
                mention.span.end = word.end;
                mention.probability += probability;
                *words += 1;
            }
            _ if tag % 2 == 1 => mentions.push((
                Mention {
                    class: (tag - 1) / 2,
                    span: word,
                    probability,
                },
                1,
            )),
            _ => {}
        }
    }
    mentions
        .into_iter()
        .map(|(mention, words)| Mention {
            probability: mention.probability / words as f32,
            ..mention
        })
        .collect()
}
