//! What a note says of the things it mentions: denied, only possible, of a relative, long past, feared.
//!
//! Rules in the manner of NegEx (Chapman et al. 2001, doi:10.1006/jbin.2001.1029) and ConText (Harkema
//! et al. 2009, doi:10.1016/j.jbi.2009.05.002): a cue reaches over the words behind it, before it, or
//! both, up to the end of the sentence, the next cue of its kind or a word that ends its reach. Which
//! words these are stands in two files that a clinician can read, `context/english.toml` and
//! `context/chinese.toml`; all are looked for at once, since notes mix languages. A cue that may look
//! both ways looks forward where a mention stands there, and back otherwise.
//!
//! For each of the three questions (whether, of whom, when) the nearest cue decides. Where there is
//! none, the section does: what stands under a family history is of the family. Cues within a mention
//! are part of it and say nothing. What never was is not there now either, so that a negated mention is
//! never historical: "no history of asthma" says that there is none.

mod cues;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::cues::CueError;
use self::cues::{Cue, Cues, Mark, Reach, Role};
use super::{
    Certainty, Experiencer, Section, SectionKind, Span, Status, Time, sections, sentences,
};

/// The rules, ready for use. Built once, used for every note.
#[derive(Debug, Clone)]
pub struct Contexts {
    cues: Cues,
}

/// What a note says of one mention, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Judged {
    /// What it says.
    pub status: Status,
    /// What made it so: at most one reason for each of certainty, experiencer and time, none for what
    /// is said by default.
    pub reasons: Vec<Reason>,
}

/// Why a mention has a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// These words of the text.
    Cue {
        /// Where they stand.
        span: Span,
        /// What they mean.
        means: Meaning,
    },
    /// The section that it stands in.
    Section {
        /// What the section is about.
        kind: SectionKind,
        /// What that means.
        means: Meaning,
    },
}

/// What a cue says of the mentions within its reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// It is not there.
    Negated,
    /// It may be there.
    Possible,
    /// A relative has it.
    Family,
    /// Somebody else has it.
    Other,
    /// It is over.
    Historical,
    /// It might come.
    Hypothetical,
}

/// The three questions, each answered by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Certainty,
    Experiencer,
    Time,
}

const AXES: [Axis; 3] = [Axis::Certainty, Axis::Experiencer, Axis::Time];

impl Meaning {
    fn axis(self) -> Axis {
        match self {
            Self::Negated | Self::Possible => Axis::Certainty,
            Self::Family | Self::Other => Axis::Experiencer,
            Self::Historical | Self::Hypothetical => Axis::Time,
        }
    }

    fn apply(self, status: &mut Status) {
        match self {
            Self::Negated => status.certainty = Certainty::Negated,
            Self::Possible => status.certainty = Certainty::Possible,
            Self::Family => status.experiencer = Experiencer::Family,
            Self::Other => status.experiencer = Experiencer::Other,
            Self::Historical => status.time = Time::Historical,
            Self::Hypothetical => status.time = Time::Hypothetical,
        }
    }
}

impl Contexts {
    /// The rules that ship with the crate, English and Chinese.
    pub fn shipped() -> Self {
        // The files are part of the program, and a test reads them: they do not fail later.
        Self::from_toml(&[
            include_str!("context/english.toml"),
            include_str!("context/chinese.toml"),
        ])
        .expect("the shipped cues are sound")
    }

    /// Rules of one's own, in the format of the shipped files. More than one file make one set.
    ///
    /// # Errors
    /// A file that is not in that format, words listed twice, or none.
    pub fn from_toml(files: &[&str]) -> Result<Self, CueError> {
        let cues = Cues::from_toml(files)?;
        Ok(Self { cues })
    }

    /// What a note says of each of `mentions`, in their order.
    ///
    /// A mention belongs to the sentence in which it starts.
    pub fn judge_note(&self, text: &str, mentions: &[Span]) -> Vec<Judged> {
        let mut order: Vec<usize> = (0..mentions.len()).collect();
        order.sort_by_key(|&at| mentions[at].start);
        let mut judged = vec![Judged::default(); mentions.len()];
        let mut rest = order.as_slice();
        for Section {
            kind, span, body, ..
        } in sections(text)
        {
            // In the heading itself.
            for &at in take_before(&mut rest, mentions, body.start) {
                judged[at] = Judged::new([None; 3], kind);
            }
            for sentence in sentences(body.of(text).unwrap_or_default()) {
                let sentence = Span::new(body.start + sentence.start, body.start + sentence.end);
                let inside = take_before(&mut rest, mentions, sentence.end);
                let spans: Vec<Span> = inside.iter().map(|&at| mentions[at]).collect();
                let found = self.judge_sentence(text, sentence, kind, &spans);
                for (&at, found) in inside.iter().zip(found) {
                    judged[at] = found;
                }
            }
            // Nothing but white space is left of the section.
            for &at in take_before(&mut rest, mentions, span.end) {
                judged[at] = Judged::new([None; 3], kind);
            }
        }
        judged
    }

    /// What one sentence of a text says of each of `mentions`, in their order.
    ///
    /// All places, also those of the reasons, count from the start of the text.
    pub fn judge_sentence(
        &self,
        text: &str,
        sentence: Span,
        section: SectionKind,
        mentions: &[Span],
    ) -> Vec<Judged> {
        if mentions.is_empty() {
            return Vec::new();
        }
        let marks = self.cues.find(text, sentence, mentions);
        let mentions = mentions.iter().enumerate();
        let mut events: Vec<Event<'_>> = marks
            .iter()
            .map(Event::Mark)
            .chain(mentions.map(|(at, &span)| Event::Mention(at, span)))
            .collect();
        events.sort_by_key(|event| event.span().start);
        let nearest = Walk::over(&events);
        let nearest = nearest.into_iter();
        nearest
            .map(|nearest| Judged::new(nearest, section))
            .collect()
    }
}

/// Takes those mentions off the front of a list in the order of their start that start before `end`.
fn take_before<'a>(rest: &mut &'a [usize], mentions: &[Span], end: usize) -> &'a [usize] {
    let count = rest.partition_point(|&at| mentions[at].start < end);
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken
}

/// Something in a sentence that the rules look at.
enum Event<'a> {
    Mark(&'a Mark<'a>),
    Mention(usize, Span),
}

impl Event<'_> {
    fn span(&self) -> Span {
        match self {
            Self::Mark(mark) => mark.span,
            Self::Mention(_, span) => *span,
        }
    }
}

/// Which way a cue looks from where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// The cue that decides for a mention so far, and the bytes between them.
#[derive(Debug, Clone, Copy)]
struct Near {
    span: Span,
    means: Meaning,
    gap: usize,
}

/// A walk over a sentence, there and back, that hands each mention the cues that reach it.
struct Walk<'a> {
    events: &'a [Event<'a>],
    /// For each mention, the nearest cue of each axis.
    nearest: Vec<[Option<Near>; 3]>,
    /// For each event, whether it is a cue that reached a mention.
    reached: Vec<bool>,
}

impl<'a> Walk<'a> {
    fn over(events: &'a [Event<'a>]) -> Vec<[Option<Near>; 3]> {
        let mut walk = Self {
            events,
            nearest: vec![[None; 3]; events.len()],
            reached: vec![false; events.len()],
        };
        walk.walk(Direction::Forward, 0..events.len());
        walk.walk(Direction::Backward, (0..events.len()).rev());
        let mentions = events
            .iter()
            .filter(|event| matches!(event, Event::Mention(..)));
        walk.nearest.truncate(mentions.count());
        walk.nearest
    }

    fn walk(&mut self, direction: Direction, order: impl Iterator<Item = usize>) {
        // The cue of each axis within whose reach we are, with its place in the list of events.
        let mut open: [Option<(usize, Span, Cue)>; 3] = [None; 3];
        for at in order {
            match &self.events[at] {
                Event::Mention(mention, span) => {
                    for (near, open) in self.nearest[*mention].iter_mut().zip(open) {
                        let Some((cue_at, cue_span, cue)) = open else {
                            continue;
                        };
                        self.reached[cue_at] = true;
                        let gap = gap(cue_span, *span, direction);
                        if near.is_none_or(|near| gap < near.gap) {
                            let (span, means) = (cue_span, cue.means);
                            *near = Some(Near { span, means, gap });
                        }
                    }
                }
                Event::Mark(Mark {
                    role: Role::End(ends),
                    ..
                }) => {
                    for (axis, open) in AXES.into_iter().zip(&mut open) {
                        let phrase = open.is_some_and(|(_, _, cue)| cue.reach == Reach::Phrase);
                        if ends.of(axis) || ends.phrases() && phrase {
                            *open = None;
                        }
                    }
                }
                // A cue that may look both ways looks back only if it reached nothing ahead.
                Event::Mark(Mark {
                    role: Role::Cue(cue),
                    span,
                }) if cue.looks(direction)
                    && !(direction == Direction::Backward && self.reached[at]) =>
                {
                    let open = &mut open[cue.means.axis() as usize];
                    // "no possible": of two that touch, the negation counts.
                    let is_part = open.is_some_and(|(_, before, open)| {
                        open.means == Meaning::Negated && gap(before, *span, direction) <= 1
                    });
                    if !is_part {
                        *open = Some((at, *span, *cue));
                    }
                }
                Event::Mark(_) => {}
            }
        }
    }
}

/// Bytes from one range to the other, which lies in this direction.
fn gap(from: Span, to: Span, direction: Direction) -> usize {
    match direction {
        Direction::Forward => to.start.saturating_sub(from.end),
        Direction::Backward => from.start.saturating_sub(to.end),
    }
}

impl Judged {
    /// Puts together what the nearest cues and the section say.
    fn new(nearest: [Option<Near>; 3], kind: SectionKind) -> Self {
        let mut judged = Self::default();
        let default = kind.status();
        for (axis, near) in AXES.into_iter().zip(nearest) {
            let reason = match near {
                Some(Near { span, means, .. }) => Some((means, Reason::Cue { span, means })),
                None => {
                    implied(axis, default).map(|means| (means, Reason::Section { kind, means }))
                }
            };
            let Some((means, reason)) = reason else {
                continue;
            };
            let negated = judged.status.certainty == Certainty::Negated;
            if !(negated && means == Meaning::Historical) {
                means.apply(&mut judged.status);
                judged.reasons.push(reason);
            }
        }
        judged
    }
}

/// What the status of a section means for one question.
fn implied(axis: Axis, status: Status) -> Option<Meaning> {
    match (axis, status.experiencer, status.time) {
        (Axis::Experiencer, Experiencer::Family, _) => Some(Meaning::Family),
        (Axis::Time, _, Time::Historical) => Some(Meaning::Historical),
        _ => None,
    }
}
