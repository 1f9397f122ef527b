//! Search for the best combinations: one option for each choice, no combination better in everything.
//!
//! Knows nothing of medicine. A [`Space`] says what a beginning of a combination is worth; because gains and
//! costs only grow with it, what a beginning can still become is bounded, and whole branches are left out
//! when a combination already found is better than anything they could become (Land and Doig 1960,
//! doi:10.2307/1910129, for several goals at once).

use std::cmp::Reverse;

/// Up to this many combinations every one is looked at.
pub(super) const EXHAUSTIVE_LIMIT: u64 = 1024;
/// Most beginnings that are looked at beyond that.
pub(super) const NODE_LIMIT: u64 = 100_000;
/// Most combinations of the best set beyond that.
pub(super) const BEST_LIMIT: usize = 256;
/// Most losers that are kept beyond that; the others are counted.
pub(super) const LOST_LIMIT: usize = 1024;

/// What a combination is worth. All whole numbers, so that equal is equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Points {
    /// More is better.
    pub(super) gains: [u32; 2],
    /// Less is better.
    pub(super) costs: [u32; 4],
}

/// Choices, each with its options, all numbered from 0.
pub(super) trait Space {
    /// How many options each choice has; none is 0.
    fn sizes(&self) -> &[usize];

    /// What the options chosen so far are worth, or the finding that rules them out. Gains and costs never
    /// fall when one more is chosen, and what is ruled out stays so.
    fn points(&self, chosen: &[usize]) -> Result<Points, usize>;

    /// The most gains and the least costs that the choices from `from` on can add.
    fn at_best(&self, from: usize) -> Points;
}

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether every combination was looked at or bounded.
    pub(super) complete: bool,
    /// Whether every combination was to be looked at one by one.
    pub(super) exhaustive: bool,
    /// How many combinations there are; the largest number where there are more.
    pub(super) total: u64,
    /// How many of them were looked at, or lie in branches that were shown to lose.
    pub(super) judged: u64,
    /// The best set, in order: most gains, then least costs, then by number.
    pub(super) best: Vec<(Vec<usize>, Points)>,
    /// The others, in the order they were looked at.
    pub(super) lost: Vec<Lost>,
    /// How many others are not listed.
    pub(super) lost_more: u64,
}

/// A combination that lost, or all that begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// What was chosen; fewer than there are choices where all that begin so lost.
    pub(super) chosen: Vec<usize>,
    /// How many combinations that is.
    pub(super) count: u64,
    pub(super) fate: Fate,
}

/// Why a combination lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// A combination of the best set is better: its place there, and the points of the loser at best.
    Dominated { by: usize, points: Points },
    /// A finding rules it out.
    RuledOut(usize),
}

impl Points {
    /// Whether these are nowhere worse and somewhere better.
    pub(super) fn dominate(&self, other: &Self) -> bool {
        let gains = self.gains.iter().zip(&other.gains);
        let costs = self.costs.iter().zip(&other.costs);
        *self != *other
            && gains.into_iter().all(|(a, b)| a >= b)
            && costs.into_iter().all(|(a, b)| a <= b)
    }

    fn plus(self, other: &Self) -> Self {
        let mut sum = self;
        for (to, from) in sum.gains.iter_mut().zip(&other.gains) {
            *to = to.saturating_add(*from);
        }
        for (to, from) in sum.costs.iter_mut().zip(&other.costs) {
            *to = to.saturating_add(*from);
        }
        sum
    }
}

/// Finds the best set of a space.
pub(super) fn search(space: &impl Space) -> Found {
    let sizes = space.sizes();
    let total = product(sizes);
    let mut search = Search {
        space,
        rest: (0..=sizes.len()).map(|from| space.at_best(from)).collect(),
        exhaustive: total <= EXHAUSTIVE_LIMIT,
        nodes: 0,
        judged: 0,
        stopped: false,
        best: Vec::new(),
        lost: Vec::new(),
    };
    if !sizes.is_empty() {
        search.extend(&mut Vec::new());
    }
    search.found(if sizes.is_empty() { 0 } else { total })
}

fn product(sizes: &[usize]) -> u64 {
    sizes
        .iter()
        .fold(1, |product: u64, size| product.saturating_mul(*size as u64))
}

struct Search<'s, S> {
    space: &'s S,
    /// By choice: the most that it and the later ones can add.
    rest: Vec<Points>,
    exhaustive: bool,
    nodes: u64,
    judged: u64,
    stopped: bool,
    best: Vec<(Vec<usize>, Points)>,
    /// What lost, its points at best, or what rules it out.
    lost: Vec<(Vec<usize>, Result<Points, usize>)>,
}

impl<S: Space> Search<'_, S> {
    /// Looks at everything that begins so. As deep as there are choices.
    fn extend(&mut self, chosen: &mut Vec<usize>) {
        let depth = chosen.len();
        let size = self.space.sizes().get(depth).copied().unwrap_or(0);
        for option in 0..size {
            if self.stopped {
                return;
            }
            chosen.push(option);
            self.look(chosen);
            chosen.pop();
        }
    }

    fn look(&mut self, chosen: &mut Vec<usize>) {
        self.nodes += 1;
        if !self.exhaustive && (self.nodes > NODE_LIMIT || self.best.len() > BEST_LIMIT) {
            self.stopped = true;
            return;
        }
        let is_whole = chosen.len() == self.space.sizes().len();
        let points = match self.space.points(chosen) {
            Ok(points) => points,
            Err(finding) => return self.lose(chosen, Err(finding)),
        };
        if is_whole {
            return self.finish(chosen, points);
        }
        if !self.exhaustive {
            let rest = self.rest.get(chosen.len()).copied().unwrap_or_default();
            let bound = points.plus(&rest);
            if self.best.iter().any(|(_, best)| best.dominate(&bound)) {
                return self.lose(chosen, Ok(bound));
            }
        }
        self.extend(chosen);
    }

    fn finish(&mut self, chosen: &[usize], points: Points) {
        if self.best.iter().any(|(_, best)| best.dominate(&points)) {
            return self.lose(chosen, Ok(points));
        }
        self.judged = self.judged.saturating_add(1);
        let (beaten, kept) = std::mem::take(&mut self.best)
            .into_iter()
            .partition(|(_, best)| points.dominate(best));
        self.best = kept;
        self.best.push((chosen.to_vec(), points));
        let beaten: Vec<(Vec<usize>, Points)> = beaten;
        let beaten = beaten
            .into_iter()
            .map(|(chosen, points)| (chosen, Ok(points)));
        self.lost.extend(beaten);
    }

    fn lose(&mut self, chosen: &[usize], why: Result<Points, usize>) {
        self.judged = self.judged.saturating_add(self.below(chosen.len()));
        self.lost.push((chosen.to_vec(), why));
    }

    /// How many combinations begin with so many given choices.
    fn below(&self, depth: usize) -> u64 {
        product(self.space.sizes().get(depth..).unwrap_or_default())
    }

    fn found(mut self, total: u64) -> Found {
        self.best.sort_by(|(one, its), (other, theirs)| {
            let key = |points: &Points| (Reverse(points.gains), points.costs);
            key(its).cmp(&key(theirs)).then_with(|| one.cmp(other))
        });
        let keep = if self.exhaustive {
            usize::MAX
        } else {
            LOST_LIMIT
        };
        let mut lost = Vec::new();
        let mut lost_more = 0_u64;
        for (chosen, why) in &self.lost {
            let count = self.below(chosen.len());
            let fate = match why {
                Err(finding) => Some(Fate::RuledOut(*finding)),
                // Whoever beat it is in the best set, or was beaten by one that is.
                Ok(points) => {
                    let by = self.best.iter().position(|(_, best)| best.dominate(points));
                    by.map(|by| Fate::Dominated {
                        by,
                        points: *points,
                    })
                }
            };
            match fate {
                Some(fate) if lost.len() < keep => lost.push(Lost {
                    chosen: chosen.clone(),
                    count,
                    fate,
                }),
                _ => lost_more = lost_more.saturating_add(count),
            }
        }
        Found {
            complete: !self.stopped,
            exhaustive: self.exhaustive,
            total,
            judged: self.judged,
            best: self.best,
            lost,
            lost_more,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Options with points of their own, and pairs that may not meet or cost extra.
    #[derive(Debug, Clone)]
    struct Table {
        sizes: Vec<usize>,
        options: Vec<Vec<Points>>,
        /// By the numbers of two options, counted over all choices: extra cost; 9 rules out.
        pairs: Vec<Vec<u32>>,
    }

    impl Table {
        fn number(&self, choice: usize, option: usize) -> usize {
            self.sizes[..choice].iter().sum::<usize>() + option
        }
    }

    impl Space for Table {
        fn sizes(&self) -> &[usize] {
            &self.sizes
        }

        fn points(&self, chosen: &[usize]) -> Result<Points, usize> {
            let mut sum = Points::default();
            for (choice, option) in chosen.iter().enumerate() {
                sum = sum.plus(&self.options[choice][*option]);
                let here = self.number(choice, *option);
                for (before, other) in chosen.iter().enumerate().take(choice) {
                    match self.pairs[self.number(before, *other)][here] {
                        9 => return Err(here),
                        extra => sum.costs[0] += extra,
                    }
                }
            }
            Ok(sum)
        }

        fn at_best(&self, from: usize) -> Points {
            let mut best = Points::default();
            for options in self.options.iter().skip(from) {
                let mut one = options[0];
                for option in options {
                    for (to, from) in one.gains.iter_mut().zip(option.gains) {
                        *to = from.max(*to);
                    }
                    for (to, from) in one.costs.iter_mut().zip(option.costs) {
                        *to = from.min(*to);
                    }
                }
                best = best.plus(&one);
            }
            best
        }
    }

    fn tables(
        choices: std::ops::Range<usize>,
        options: std::ops::Range<usize>,
    ) -> impl Strategy<Value = Table> {
        proptest::collection::vec(options, choices).prop_flat_map(|sizes| {
            let all: usize = sizes.iter().sum();
            let points = (any::<[u8; 2]>(), any::<[u8; 4]>()).prop_map(|(gains, costs)| Points {
                gains: gains.map(|it| u32::from(it % 4)),
                costs: costs.map(|it| u32::from(it % 4)),
            });
            let options: Vec<_> = sizes
                .iter()
                .map(|size| proptest::collection::vec(points.clone(), *size))
                .collect();
            let pairs = proptest::collection::vec(
                proptest::collection::vec(
                    prop_oneof![6 => Just(0_u32), 2 => 1..4_u32, 1 => Just(9)],
                    all,
                ),
                all,
            );
            (Just(sizes), options, pairs).prop_map(|(sizes, options, pairs)| Table {
                sizes,
                options,
                pairs,
            })
        })
    }

    fn combinations(sizes: &[usize]) -> Vec<Vec<usize>> {
        sizes.iter().fold(vec![Vec::new()], |all, size| {
            let longer = |begin: &Vec<usize>| {
                let begin = begin.clone();
                (0..*size).map(move |option| [begin.as_slice(), &[option]].concat())
            };
            all.iter().flat_map(longer).collect()
        })
    }

    /// Every combination against every other.
    fn brute(table: &Table) -> Vec<Vec<usize>> {
        let possible: Vec<_> = combinations(&table.sizes)
            .into_iter()
            .filter_map(|chosen| Some((table.points(&chosen).ok()?, chosen)))
            .collect();
        let mut best: Vec<_> = possible
            .iter()
            .filter(|(points, _)| !possible.iter().any(|(other, _)| other.dominate(points)))
            .map(|(_, chosen)| chosen.clone())
            .collect();
        best.sort();
        best
    }

    fn best_of(found: &Found) -> Vec<Vec<usize>> {
        let mut best: Vec<_> = found
            .best
            .iter()
            .map(|(chosen, _)| chosen.clone())
            .collect();
        best.sort();
        best
    }

    /// Every combination is in the best set or has exactly one reason why not, and the reason is true.
    fn check_reasons(table: &Table, found: &Found) -> Result<(), TestCaseError> {
        for lost in &found.lost {
            let all = combinations(&table.sizes);
            let meant = all.iter().filter(|all| all.starts_with(&lost.chosen));
            prop_assert_eq!(meant.clone().count() as u64, lost.count);
            for chosen in meant {
                match lost.fate {
                    Fate::RuledOut(_) => prop_assert!(table.points(chosen).is_err()),
                    Fate::Dominated { by, .. } => {
                        // What is ruled out further down was left out with its branch.
                        if let Ok(points) = table.points(chosen) {
                            prop_assert!(found.best[by].1.dominate(&points));
                        }
                    }
                }
            }
        }
        let told = found.best.len() as u64 + found.lost.iter().map(|lost| lost.count).sum::<u64>();
        prop_assert_eq!(told + found.lost_more, found.total);
        prop_assert_eq!(found.judged, found.total);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn small_spaces_give_what_brute_force_gives(table in tables(1..5, 1..5)) {
            let found = search(&table);
            prop_assert!(found.exhaustive && found.complete);
            prop_assert_eq!(best_of(&found), brute(&table));
            check_reasons(&table, &found)?;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn bounded_search_gives_what_brute_force_gives(table in tables(6..7, 3..5)) {
            let found = search(&table);
            prop_assume!(!found.exhaustive && found.complete);
            prop_assert_eq!(best_of(&found), brute(&table));
            if found.lost_more == 0 {
                check_reasons(&table, &found)?;
            }
        }
    }

    #[test]
    fn nothing_to_choose_gives_nothing() {
        let table = Table {
            sizes: vec![],
            options: vec![],
            pairs: vec![],
        };
        let found = search(&table);
        assert!(found.complete && found.best.is_empty() && found.total == 0);
    }

    #[test]
    fn the_worst_space_ends_in_time_and_says_that_it_is_not_complete() {
        // Every option trades one goal for another, so that nothing can be left out.
        let option = |at: usize| Points {
            gains: [at as u32, 0],
            costs: [at as u32, 0, 0, 0],
        };
        let (choices, size) = (16, 16);
        let table = Table {
            sizes: vec![size; choices],
            options: vec![(0..size).map(option).collect(); choices],
            pairs: vec![vec![0; choices * size]; choices * size],
        };
        let start = std::time::Instant::now();
        let found = search(&table);
        assert!(!found.complete && found.judged < found.total);
        assert!(found.best.len() <= BEST_LIMIT + 1 && found.lost.len() <= LOST_LIMIT);
        // 20 times what a slow machine takes in a debug build.
        assert!(start.elapsed() < std::time::Duration::from_secs(20));
    }
}
