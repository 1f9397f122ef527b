//! A tag for each word of a window: a linear chain over the network's scores (Lafferty, McCallum and
//! Pereira 2001).
//!
//! What the last layers give for a window is a score for each word and tag, then one for each step from
//! a tag to the next, then one for each tag to begin with. Sums over all ways through the chain are taken
//! forwards and backwards in f64, scaled at each word, so that nothing under- or overflows.

use std::rc::Rc;

use burn::tensor::{Tensor, TensorData};

use super::{
    blueprint::{Blueprint, Initial, Slot},
    tape::{Pass, Placed, Step, Tape, Value},
    taps::Gradient,
};
use crate::profile::Kind;

/// Sizes of a tagged window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tagging {
    /// Words of a window.
    pub(super) words: usize,
    /// Numbers that each word is known by; all 0 past the last word.
    pub(super) slots: usize,
    /// Tags to choose from.
    pub(super) tags: usize,
}

impl Tagging {
    pub(super) fn inputs(self) -> usize {
        self.words * self.slots
    }

    pub(super) fn outputs(self) -> usize {
        self.words * self.tags
    }

    pub(super) fn scores(self) -> usize {
        self.outputs() + self.steps()
    }

    /// Scores that are the same for every word: of steps, and of beginnings.
    fn steps(self) -> usize {
        (self.tags + 1) * self.tags
    }

    pub(super) fn takes(self, tags: &[u16]) -> bool {
        (1..=self.words).contains(&tags.len())
            && tags.iter().all(|&tag| usize::from(tag) < self.tags)
    }
}

/// Words of a window: up to the last one that has a number.
pub(super) fn words_of(input: &[f32], slots: usize) -> usize {
    let last = input.iter().rposition(|&number| number != 0.0);
    last.map_or(0, |last| last / slots + 1)
}

/// Adds to a window's scores those of steps and beginnings, which are weights of their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    tagging: Tagging,
    table: Slot,
}

/// What is known before anything is learnt, as tags are those of entities (0 outside, 2k + 1 for a first word
/// and 2k + 2 for a further one of the k-th kind): added to the score of a step. Most words are outside,
/// a further word follows one of its own entity, and an entity hardly ever follows another at once. With few
/// noisy steps a network does not learn this; without noise it makes no difference in the end.
pub(super) fn prior(from: Option<usize>, to: usize) -> f32 {
    match to {
        0 => 2.0,
        to if to % 2 == 0 && from != Some(to) && from != Some(to - 1) => -4.0,
        to if to % 2 == 1 && from.is_some_and(|from| from != 0) => -2.0,
        _ => 0.0,
    }
}

impl Steps {
    pub(super) fn new(on: &mut Blueprint, name: &str, tagging: Tagging) -> Self {
        let shape = [tagging.tags + 1, tagging.tags];
        let table = on.tensor(format!("{name}.weight"), &shape, Initial::Zeros);
        on.holds(2 * tagging.scores());
        Self { tagging, table }
    }

    /// # Shapes
    /// - `input`: `[examples][words · tags]`
    /// - output: `[examples][words · tags + (tags + 1) · tags]`
    pub(super) fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let [input] = match tape.place([input]) {
            Placed::Rows(rows) => rows,
            Placed::Tensors([input], on) => {
                let steps = self.tagging.steps();
                let prior = TensorData::new(self.prior(), [1, steps]);
                let prior = Tensor::<2>::from_data(prior, on.device());
                let table = on.weight(self.table, [1, steps]) + prior;
                let table = table.repeat_dim(0, tape.examples);
                let (slot, own) = (self.table, self.tagging.outputs());
                let output = Tensor::cat(vec![input, table], 1);
                return tape.tap(output, move |gradient| {
                    let [examples, width] = gradient.dims();
                    let rows = gradient.slice([0..examples, own..width]);
                    vec![(slot, Gradient::Rows(rows))]
                });
            }
            Placed::Edges(_) => unreachable!("what tags is refused before it is drawn"),
        };
        let table = tape.weights.at(self.table).iter();
        let table: Vec<f32> = table
            .zip(self.prior())
            .map(|(own, prior)| own + prior)
            .collect();
        let rows = input.rows().chunks_exact(self.tagging.outputs());
        let output = rows.flat_map(|row| [row, &table].concat()).collect();
        let layer = *self;
        tape.layer(output, &[&input], |_| StepsStep(layer))
    }
}

impl Steps {
    fn prior(&self) -> Vec<f32> {
        let tags = self.tagging.tags;
        let from = (0..tags).map(Some).chain([None]);
        from.flat_map(|from| (0..tags).map(move |to| prior(from, to)))
            .collect()
    }
}

struct StepsStep(Steps);

impl Step for StepsStep {
    fn kind() -> Kind {
        Kind::Tagging
    }

    fn back(self: Box<Self>, output: Vec<f32>, pass: &mut Pass) -> Vec<Option<Vec<f32>>> {
        let Steps { tagging, table } = self.0;
        let (own, all) = (tagging.outputs(), tagging.scores());
        let (weights, examples) = (pass.weights, pass.examples);
        pass.sink.take(weights, table, examples, |of, place| {
            let rows = output[of.start * all..of.end * all].chunks_exact(all);
            rows.for_each(|row| super::kernels::add(place, &row[own..]));
        });
        let rows = output.chunks_exact(all);
        vec![Some(rows.flat_map(|row| row[..own].to_vec()).collect())]
    }
}

/// Sums over all ways through the chain of one window.
struct Chain {
    tagging: Tagging,
    words: usize,
    /// Exponentials of the scores of steps: `[from][to]`.
    steps: Vec<f64>,
    /// Probability of each tag given the words up to it: `[words][tags]`.
    forwards: Vec<f64>,
    /// Times this: given all words.
    backwards: Vec<f64>,
    /// Exponentials of each word's scores, over the largest: `[words][tags]`.
    own: Vec<f64>,
    /// What each word's sum was divided by.
    scales: Vec<f64>,
    /// Logarithm of the sum over all ways.
    logarithm: f64,
}

impl Chain {
    /// Of the first `words` of a window.
    fn new(tagging: Tagging, row: &[f32], words: usize) -> Self {
        let tags = tagging.tags;
        let (scores, table) = row.split_at(tagging.outputs());
        let exponentials = |values: &[f32]| -> Vec<f64> {
            values.iter().map(|&score| f64::from(score).exp()).collect()
        };
        let (steps, first) = table.split_at(tags * tags);
        let (steps, first) = (exponentials(steps), exponentials(first));
        let (mut own, mut logarithm) = (Vec::with_capacity(words * tags), 0.0);
        for scores in scores.chunks_exact(tags).take(words) {
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            logarithm += f64::from(largest);
            own.extend(scores.iter().map(|&score| f64::from(score - largest).exp()));
        }
        let mut forwards: Vec<f64> = Vec::with_capacity(words * tags);
        let mut scales = Vec::with_capacity(words);
        for word in 0..words {
            let own = &own[word * tags..][..tags];
            let mut at: Vec<f64> = match word.checked_sub(1) {
                None => first.clone(),
                Some(last) => {
                    let mut at = vec![0.0; tags];
                    let last = &forwards[last * tags..][..tags];
                    for (from, steps) in last.iter().zip(steps.chunks_exact(tags)) {
                        let to = at.iter_mut().zip(steps);
                        to.for_each(|(at, step)| *at += from * step);
                    }
                    at
                }
            };
            at.iter_mut().zip(own).for_each(|(at, own)| *at *= own);
            let scale: f64 = at.iter().sum();
            at.iter_mut().for_each(|at| *at /= scale);
            logarithm += scale.ln();
            scales.push(scale);
            forwards.extend(at);
        }
        let mut backwards = vec![1.0; words * tags];
        for word in (1..words).rev() {
            let (before, after) = backwards.split_at_mut(word * tags);
            let after = &after[..tags];
            let own = &own[word * tags..][..tags];
            let before = &mut before[(word - 1) * tags..];
            for (before, steps) in before.iter_mut().zip(steps.chunks_exact(tags)) {
                let terms = steps.iter().zip(own).zip(after);
                let sum: f64 = terms.map(|((step, own), after)| step * own * after).sum();
                *before = sum / scales[word];
            }
        }
        Self {
            tagging,
            words,
            steps,
            forwards,
            backwards,
            own,
            scales,
            logarithm,
        }
    }

    /// Probability of each tag of each word: `[words][tags]`.
    fn tags(&self) -> impl Iterator<Item = f64> {
        let pairs = self.forwards.iter().zip(&self.backwards);
        pairs.map(|(forwards, backwards)| forwards * backwards)
    }

    /// Expected number of steps from each tag to each: `[from][to]`.
    fn expected_steps(&self) -> Vec<f64> {
        let tags = self.tagging.tags;
        let mut expected = vec![0.0; tags * tags];
        for word in 1..self.words {
            let before = &self.forwards[(word - 1) * tags..][..tags];
            let own = &self.own[word * tags..][..tags];
            let after = &self.backwards[word * tags..][..tags];
            let to: Vec<f64> = own
                .iter()
                .zip(after)
                .map(|(own, after)| own * after / self.scales[word])
                .collect();
            for (from, &before) in before.iter().enumerate() {
                let row = from * tags..(from + 1) * tags;
                let steps = self.steps[row.clone()].iter().zip(&to);
                let places = expected[row].iter_mut().zip(steps);
                places.for_each(|(place, (step, to))| *place += before * step * to);
            }
        }
        expected
    }
}

/// The loss of one window, mean over its words; turns its scores into the gradient there.
pub(super) fn loss(tagging: Tagging, row: &mut [f32], tags: &[u16]) -> f32 {
    let chain = Chain::new(tagging, row, tags.len());
    let (count, words) = (tagging.tags, tags.len() as f64);
    let (own, table) = row.split_at_mut(tagging.outputs());
    let (steps, first) = table.split_at_mut(count * count);
    let tag = |word: usize| usize::from(tags[word]);
    let mut score = f64::from(first[tag(0)]);
    for word in 0..tags.len() {
        score += f64::from(own[word * count + tag(word)]);
        if word > 0 {
            score += f64::from(steps[tag(word - 1) * count + tag(word)]);
        }
    }
    let mut gradient: Vec<f64> = chain.tags().collect();
    let mut gradient_of_steps = chain.expected_steps();
    for word in 0..tags.len() {
        gradient[word * count + tag(word)] -= 1.0;
        if word > 0 {
            gradient_of_steps[tag(word - 1) * count + tag(word)] -= 1.0;
        }
    }
    let write = |places: &mut [f32], values: &[f64]| {
        let pairs = places.iter_mut().zip(values);
        pairs.for_each(|(place, value)| *place = (value / words) as f32);
    };
    own.fill(0.0);
    write(own, &gradient);
    write(steps, &gradient_of_steps);
    write(first, &gradient[..count]);
    ((chain.logarithm - score) / words) as f32
}

/// Probability of each tag of each word; zeros past the last word.
pub(super) fn predict(tagging: Tagging, input: &[f32], row: &[f32]) -> Vec<f32> {
    let words = words_of(input, tagging.slots).min(tagging.words);
    let mut output = vec![0.0; tagging.outputs()];
    if words > 0 {
        let chain = Chain::new(tagging, row, words);
        let places = output.iter_mut().zip(chain.tags());
        places.for_each(|(place, tag)| *place = tag as f32);
    }
    output
}

/// The most probable tags of a window of which no step has probability 0 by the rule, given the
/// probabilities of each word's tags (Viterbi 1967). `may_follow(none, tag)` says whether a tag may begin.
///
/// # Panics
/// Where `probabilities` has not a whole number of rows of `tags`: a mistake of the caller.
pub fn most_probable_tags(
    probabilities: &[f32],
    tags: usize,
    may_follow: impl Fn(Option<usize>, usize) -> bool,
) -> Vec<u16> {
    assert!(tags > 0 && probabilities.len().is_multiple_of(tags));
    let words = probabilities.len() / tags;
    if words == 0 {
        return Vec::new();
    }
    let logarithm = |at: usize| f64::from(probabilities[at]).max(1e-30).ln();
    let mut best: Vec<f64> = (0..tags)
        .map(|tag| match may_follow(None, tag) {
            true => logarithm(tag),
            false => f64::NEG_INFINITY,
        })
        .collect();
    let mut came_from: Vec<Rc<[usize]>> = Vec::with_capacity(words);
    for word in 1..words {
        let reach = |tag: usize| {
            let from = (0..tags).filter(|&from| may_follow(Some(from), tag));
            let from = from.fold(None, |found: Option<usize>, from| match found {
                Some(found) if best[found] >= best[from] => Some(found),
                _ => Some(from),
            });
            match from {
                Some(from) => (from, best[from] + logarithm(word * tags + tag)),
                None => (0, f64::NEG_INFINITY),
            }
        };
        let reached: Vec<_> = (0..tags).map(reach).collect();
        came_from.push(reached.iter().map(|&(from, _)| from).collect());
        best = reached.into_iter().map(|(_, score)| score).collect();
    }
    let last = (0..tags).fold(
        0,
        |found, tag| {
            if best[tag] > best[found] { tag } else { found }
        },
    );
    let mut path = vec![last];
    for from in came_from.iter().rev() {
        path.push(from[path[path.len() - 1]]);
    }
    path.iter().rev().map(|&tag| tag as u16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const TAGGING: Tagging = Tagging {
        words: 4,
        slots: 1,
        tags: 3,
    };

    fn scores() -> Vec<f32> {
        let mut random = Random::new(&[1]);
        (0..TAGGING.scores())
            .map(|_| random.symmetric(2.0))
            .collect()
    }

    /// Every way through the first three words, with its score.
    fn ways(row: &[f32]) -> Vec<([usize; 3], f64)> {
        let at = |index: usize| f64::from(row[index]);
        let mut ways = Vec::new();
        for code in 0..27 {
            let [a, b, c] = [code / 9, code / 3 % 3, code % 3];
            let own = at(a) + at(3 + b) + at(6 + c);
            let steps = at(12 + 3 * a + b) + at(12 + 3 * b + c) + at(21 + a);
            ways.push(([a, b, c], own + steps));
        }
        ways
    }

    #[test]
    fn probabilities_are_sums_over_all_ways() {
        let row = scores();
        let found = predict(TAGGING, &[1.0, 2.0, 1.0, 0.0], &row);
        let ways = ways(&row);
        let whole: f64 = ways.iter().map(|(_, score)| score.exp()).sum();
        for word in 0..3 {
            for tag in 0..3 {
                let through = ways.iter().filter(|(way, _)| way[word] == tag);
                let expected = through.map(|(_, score)| score.exp()).sum::<f64>() / whole;
                let found = f64::from(found[word * 3 + tag]);
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
        assert_eq!(found[9..], [0.0; 3]);
    }

    #[test]
    fn the_loss_is_that_of_one_way_among_all_and_its_gradient_its_slope() {
        let row = scores();
        let tags = [2, 0, 1];
        let loss_of = |row: &[f32]| {
            let mut row = row.to_vec();
            loss(TAGGING, &mut row, &tags)
        };
        let ways = ways(&row);
        let whole: f64 = ways.iter().map(|(_, score)| score.exp()).sum();
        let own = ways
            .iter()
            .find(|(way, _)| way == &[2, 0, 1])
            .expect("one of 27")
            .1;
        let expected = (whole.ln() - own) / 3.0;
        assert!((f64::from(loss_of(&row)) - expected).abs() < 1e-6);
        let mut gradient = row.clone();
        loss(TAGGING, &mut gradient, &tags);
        for (at, &found) in gradient.iter().enumerate() {
            let shifted = |step: f32| {
                let mut row = row.clone();
                row[at] += step;
                loss_of(&row)
            };
            let expected = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            assert!((found - expected).abs() < 1e-4, "{at}: {found} {expected}");
        }
    }

    #[test]
    fn large_scores_neither_overflow_nor_vanish() {
        let mut row = scores();
        row[..12].iter_mut().for_each(|score| *score *= 500.0);
        let found = predict(TAGGING, &[1.0; 4], &row);
        for word in found.chunks(3) {
            assert!((word.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{word:?}");
        }
    }

    #[test]
    fn the_best_tags_keep_to_the_rule() {
        // 0 outside, 1 first, 2 further: a further word needs one before it.
        let rule = |from: Option<usize>, tag: usize| tag != 2 || matches!(from, Some(1 | 2));
        let probabilities = [0.5, 0.4, 0.1, 0.3, 0.1, 0.6, 0.5, 0.4, 0.1];
        assert_eq!(
            most_probable_tags(&probabilities, 3, |_, _| true),
            [0, 2, 0]
        );
        assert_eq!(most_probable_tags(&probabilities, 3, rule), [1, 2, 0]);
        assert!(most_probable_tags(&[], 3, rule).is_empty());
    }
}
