//! A decision tree grown from histograms, one level a round, and read path by path.
//!
//! A level's histogram counts, for each node, column and bin, the patients of each class that come there. It
//! is all that growing needs (Breiman et al. 1984; as sums over sites: Maddock et al. 2022,
//! doi:10.1145/3548606.3560687), so sites only ever add counts, and every site derives the same tree. Counts
//! may carry noise: what is below 0 counts as 0.

/// Sizes of the histograms of one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Columns of a row.
    pub columns: usize,
    /// Most bins of a column.
    pub bins: usize,
    /// Classes.
    pub classes: usize,
}

/// Least patients on either side of a split.
const LEAST: f64 = 2.0;
/// Least gain of a split, of a Gini impurity of at most 1.
const LEAST_GAIN: f64 = 1e-4;

/// A tree of as many levels as there are histograms.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Level by level; node n of a level has the nodes 2n and 2n + 1 of the next.
    levels: Vec<Vec<Node>>,
}

/// What is known of the patients who come to a node.
#[derive(Debug, Clone, PartialEq)]
struct Node {
    /// Patients of each class, about.
    counts: Vec<f64>,
    split: Option<Split>,
}

/// A question to a row: does its column lie in a bin above this one?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Place of the column.
    pub column: usize,
    /// The last bin that answers no.
    pub bin: usize,
}

/// One question on a row's path, and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The question.
    pub split: Split,
    /// Whether the row lies above.
    pub is_above: bool,
}

impl Shape {
    /// Numbers of a node's histogram: `[columns][bins][classes]`.
    pub fn of_node(self) -> usize {
        self.columns * self.bins * self.classes
    }
}

impl Tree {
    /// Grows it from the histograms of its levels, `[nodes][columns][bins][classes]` each, the first of one
    /// node and each further one of twice as many. A histogram of zeros ends it.
    pub fn grow(shape: Shape, histograms: &[Vec<f64>]) -> Self {
        let mut levels: Vec<Vec<Node>> = Vec::new();
        let nothing = |node: &Node| Node {
            counts: vec![0.0; node.counts.len()],
            split: None,
        };
        for histogram in histograms {
            if histogram.iter().all(|&count| count == 0.0) {
                break;
            }
            let nodes = histogram.chunks_exact(shape.of_node());
            let mut level: Vec<Node> = nodes.map(|node| Node::of(shape, node)).collect();
            if let Some(parents) = levels.last() {
                for (at, node) in level.iter_mut().enumerate() {
                    let is_reached = parents.get(at / 2).is_some_and(|node| node.split.is_some());
                    if !is_reached {
                        *node = nothing(node);
                    }
                }
            }
            levels.push(level);
        }
        let last = match (levels.last(), histograms.get(levels.len().wrapping_sub(1))) {
            (Some(level), Some(histogram)) => {
                let nodes = histogram.chunks_exact(shape.of_node());
                let sides = level.iter().zip(nodes).flat_map(|(node, histogram)| {
                    let sides = match node.split {
                        Some(split) => sides(shape, histogram, split),
                        None => [node.counts.clone(), node.counts.clone()],
                    };
                    sides.map(|counts| Node {
                        counts,
                        split: None,
                    })
                });
                sides.collect()
            }
            _ => vec![Node {
                counts: vec![0.0; shape.classes],
                split: None,
            }],
        };
        levels.push(last);
        Self { levels }
    }

    /// Levels of questions.
    pub fn depth(&self) -> usize {
        self.levels.len() - 1
    }

    /// The questions that a row is asked, its columns given as bins, and the node of the last level that it
    /// comes to; none where its path ends before.
    pub fn path(&self, bins: &[usize]) -> (Vec<Turn>, Option<usize>) {
        let (mut node, mut turns) = (0, Vec::new());
        for level in &self.levels[..self.depth()] {
            let Some(split) = level.get(node).and_then(|node| node.split) else {
                return (turns, None);
            };
            let is_above = bins.get(split.column).is_some_and(|&bin| bin > split.bin);
            turns.push(Turn { split, is_above });
            node = 2 * node + usize::from(is_above);
        }
        (turns, Some(node))
    }

    /// Patients of each class, about, where a row's path ends.
    pub fn counts(&self, bins: &[usize]) -> &[f64] {
        let (turns, _) = self.path(bins);
        let node = turns
            .iter()
            .fold(0, |node, turn| 2 * node + usize::from(turn.is_above));
        &self.levels[turns.len()][node].counts
    }

    /// Probability of each class for a row: Laplace's rule of succession on the counts where its path ends.
    pub fn probabilities(&self, bins: &[usize]) -> Vec<f64> {
        let counts = self.counts(bins);
        let total: f64 = counts.iter().sum::<f64>() + counts.len() as f64;
        counts.iter().map(|count| (count + 1.0) / total).collect()
    }
}

impl Node {
    fn of(shape: Shape, histogram: &[f64]) -> Self {
        let counts = totals(shape, histogram);
        let splits = (0..shape.columns)
            .flat_map(|column| (0..shape.bins - 1).map(move |bin| Split { column, bin }));
        let mut best: Option<(f64, Split)> = None;
        for split in splits {
            let gain = gain(&sides(shape, histogram, split));
            if gain > best.map_or(LEAST_GAIN, |(best, _)| best) {
                best = Some((gain, split));
            }
        }
        Self {
            counts,
            split: best.map(|(_, split)| split),
        }
    }
}

/// Patients of each class in a node: every column counts them all, so the mean over columns has least noise.
fn totals(shape: Shape, histogram: &[f64]) -> Vec<f64> {
    let mut totals = vec![0.0; shape.classes];
    for counts in histogram.chunks_exact(shape.classes) {
        totals
            .iter_mut()
            .zip(counts)
            .for_each(|(total, count)| *total += count);
    }
    let columns = shape.columns as f64;
    totals
        .iter()
        .map(|total| (total / columns).max(0.0))
        .collect()
}

/// Patients of each class below and above a split.
fn sides(shape: Shape, histogram: &[f64], split: Split) -> [Vec<f64>; 2] {
    let mut sides = [vec![0.0; shape.classes], vec![0.0; shape.classes]];
    let bins = histogram[split.column * shape.bins * shape.classes..].chunks_exact(shape.classes);
    for (bin, counts) in bins.take(shape.bins).enumerate() {
        let side = &mut sides[usize::from(bin > split.bin)];
        let pairs = side.iter_mut().zip(counts);
        pairs.for_each(|(side, count)| *side += count);
    }
    for side in &mut sides {
        side.iter_mut().for_each(|count| *count = count.max(0.0));
    }
    sides
}

/// What a split takes from the Gini impurity, weighted by patients; nothing where a side has too few.
fn gain(sides: &[Vec<f64>; 2]) -> f64 {
    let sums = sides.each_ref().map(|side| side.iter().sum::<f64>());
    let total: f64 = sums.iter().sum();
    if sums.iter().any(|&sum| sum < LEAST) {
        return 0.0;
    }
    let impurity = |counts: &[f64], sum: f64| -> f64 {
        1.0 - counts
            .iter()
            .map(|count| (count / sum).powi(2))
            .sum::<f64>()
    };
    let whole: Vec<f64> = sides[0].iter().zip(&sides[1]).map(|(a, b)| a + b).collect();
    let after: f64 = sides
        .iter()
        .zip(sums)
        .map(|(side, sum)| sum / total * impurity(side, sum))
        .sum();
    impurity(&whole, total) - after
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        columns: 2,
        bins: 3,
        classes: 2,
    };

    /// The histogram of a level, counted row by row: bins of both columns, and the class.
    fn level(nodes: usize, rows: &[(usize, [usize; 2], usize)]) -> Vec<f64> {
        let mut histogram = vec![0.0; nodes * SHAPE.of_node()];
        for (node, bins, class) in rows {
            for (column, bin) in bins.iter().enumerate() {
                histogram[((node * 2 + column) * 3 + bin) * 2 + class] += 1.0;
            }
        }
        histogram
    }

    /// Class 1 where both columns are in their last bin.
    fn rows() -> Vec<([usize; 2], usize)> {
        let all = (0..9).map(|at| [at / 3, at % 3]);
        let four = all.flat_map(|bins| [bins; 4]);
        four.map(|bins| (bins, usize::from(bins == [2, 2])))
            .collect()
    }

    fn grown() -> Tree {
        let first: Vec<_> = rows()
            .into_iter()
            .map(|(bins, class)| (0, bins, class))
            .collect();
        let first = level(1, &first);
        let root = Tree::grow(SHAPE, &[first.clone(), vec![0.0; 2 * SHAPE.of_node()]]);
        assert_eq!(root.depth(), 1);
        let second: Vec<_> = rows()
            .into_iter()
            .filter_map(|(bins, class)| Some((root.path(&bins).1?, bins, class)))
            .collect();
        Tree::grow(SHAPE, &[first, level(2, &second)])
    }

    #[test]
    fn a_tree_finds_the_rule_that_made_its_rows() {
        let tree = grown();
        for (bins, class) in rows() {
            let probabilities = tree.probabilities(&bins);
            let likely = usize::from(probabilities[1] > probabilities[0]);
            assert_eq!(likely, class, "{bins:?} {probabilities:?}");
        }
        let (turns, _) = tree.path(&[2, 2]);
        let above = |column| Turn {
            split: Split { column, bin: 1 },
            is_above: true,
        };
        assert_eq!(turns, [above(0), above(1)]);
        // Eight of class 0 and four of class 1 above the first split, four of class 1 above both.
        assert_eq!(tree.counts(&[2, 2]), [0.0, 4.0]);
    }

    #[test]
    fn a_node_of_one_class_asks_nothing_more() {
        let tree = grown();
        let (turns, end) = tree.path(&[0, 2]);
        assert_eq!((turns.len(), end), (1, None));
        assert_eq!(tree.counts(&[0, 2]), [24.0, 0.0]);
    }

    #[test]
    fn noise_below_zero_and_too_few_patients_make_no_split() {
        let mut histogram = vec![-5.0; SHAPE.of_node()];
        histogram[0] = 1.0;
        let tree = Tree::grow(SHAPE, &[histogram]);
        assert_eq!(tree.path(&[0, 0]).0, []);
        assert_eq!(tree.probabilities(&[0, 0]), [0.5, 0.5]);
        assert_eq!(Tree::grow(SHAPE, &[]).probabilities(&[1, 1]), [0.5, 0.5]);
    }
}
