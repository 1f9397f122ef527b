//! Every network again, in f64 and plain loops, one example at a time, for the tests.

mod scattering;

pub(super) use self::scattering::scattered;
use super::{BertSizes, TextSizes};

/// An image of `[channels][height][width]` numbers.
#[derive(Clone)]
pub(super) struct Image {
    shape: [usize; 3],
    values: Vec<f64>,
}

/// Hands out the tensors of a flat vector in order.
pub(super) struct Reader<'a>(&'a [f64]);

impl<'a> Reader<'a> {
    pub(super) fn new(weights: &'a [f64]) -> Self {
        Self(weights)
    }

    fn take(&mut self, count: usize) -> &'a [f64] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn dense(&mut self, input: &[f64], outputs: usize) -> Vec<f64> {
        let weight = self.take(outputs * input.len());
        let bias = self.take(outputs);
        let row = |row: &[f64]| row.iter().zip(input).map(|(w, x)| w * x).sum::<f64>();
        weight
            .chunks(input.len())
            .zip(bias)
            .map(|(weights, bias)| row(weights) + bias)
            .collect()
    }

    fn convolution(
        &mut self,
        input: &Image,
        outputs: usize,
        size: [usize; 3],
        bias: bool,
    ) -> Image {
        self.any_convolution(input, outputs, size, [1, 1], bias)
    }

    /// `size` is kernel, stride and padding, `kind` dilation and groups.
    pub(super) fn any_convolution(
        &mut self,
        input: &Image,
        outputs: usize,
        [kernel, stride, padding]: [usize; 3],
        [dilation, groups]: [usize; 2],
        bias: bool,
    ) -> Image {
        let [channels, height, width] = input.shape;
        let fan = channels / groups * kernel * kernel;
        let mut weight = self.take(outputs * fan).to_vec();
        if !bias {
            weight
                .chunks_mut(fan)
                .for_each(|row| standardise(row, 1e-6));
        }
        let bias = if bias {
            self.take(outputs).to_vec()
        } else {
            vec![0.0; outputs]
        };
        let reach = (kernel - 1) * dilation + 1;
        let over = |length: usize| (length + 2 * padding - reach) / stride + 1;
        let shape = [outputs, over(height), over(width)];
        let mut values = Vec::new();
        for output in 0..outputs {
            let first = output / (outputs / groups) * (channels / groups);
            for position in 0..shape[1] * shape[2] {
                let (row, column) = (position / shape[2] * stride, position % shape[2] * stride);
                let terms = (0..fan).map(|at| {
                    let (channel, at_kernel) =
                        (first + at / (kernel * kernel), at % (kernel * kernel));
                    let y = (row + at_kernel / kernel * dilation).wrapping_sub(padding);
                    let x = (column + at_kernel % kernel * dilation).wrapping_sub(padding);
                    let inside = y < height && x < width;
                    let seen = (channel * height + y.min(height)) * width + x.min(width);
                    if inside {
                        weight[output * fan + at] * input.values[seen]
                    } else {
                        0.0
                    }
                });
                values.push(terms.sum::<f64>() + bias[output]);
            }
        }
        Image { shape, values }
    }

    /// A convolution of any kind, a ReLU, the means of channels, dense outputs.
    pub(super) fn one_convolution(
        &mut self,
        image: &Image,
        channels: usize,
        size: [usize; 3],
        kind: [usize; 2],
        outputs: usize,
    ) -> Vec<f64> {
        let x = relu_image(self.any_convolution(image, channels, size, kind, true));
        let x = means(&x);
        self.dense(&x, outputs)
    }

    fn along(&mut self, rows: &[Vec<f64>], outputs: usize) -> Vec<Vec<f64>> {
        let inputs = rows[0].len();
        let weights = self.take((inputs + 1) * outputs);
        rows.iter()
            .map(|row| Reader::new(weights).dense(row, outputs))
            .collect()
    }

    fn layer_norm(&mut self, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        self.normed_rows(rows, 1e-5)
    }

    fn normed_rows(&mut self, rows: &[Vec<f64>], epsilon: f64) -> Vec<Vec<f64>> {
        let features = rows[0].len();
        let (scale, shift) = (self.take(features), self.take(features));
        let norm = |row: &Vec<f64>| {
            let mut row = row.clone();
            standardise(&mut row, epsilon);
            let terms = row.iter().zip(scale).zip(shift);
            terms
                .map(|((value, scale), shift)| value * scale + shift)
                .collect()
        };
        rows.iter().map(norm).collect()
    }

    /// Sums of the table's rows.
    fn embed(&mut self, tokens: &[f64], sizes: TextSizes) -> Vec<Vec<f64>> {
        let (features, slots) = (sizes.features, sizes.slots);
        let table = self.take(sizes.tokens * features);
        let is_nothing = |token: f64| sizes.is_padded && token == 0.0;
        let embed = |tokens: &[f64]| {
            let mut sum = vec![0.0; features];
            for &token in tokens.iter().filter(|&&token| !is_nothing(token)) {
                let row = &table[token as usize * features..][..features];
                sum.iter_mut()
                    .zip(row)
                    .for_each(|(sum, value)| *sum += value);
            }
            sum
        };
        tokens.chunks(slots).map(embed).collect()
    }

    /// Features of each position that counts.
    fn encode(&mut self, tokens: &[f64], sizes: TextSizes) -> Vec<Vec<f64>> {
        let (features, slots) = (sizes.features, sizes.slots);
        let mut x = self.embed(tokens, sizes);
        if sizes.reach > 0 {
            let at = |position: isize| match usize::try_from(position) {
                Ok(position) if position < x.len() => x[position].clone(),
                _ => vec![0.0; features],
            };
            let reach = sizes.reach as isize;
            let around: Vec<Vec<f64>> = (0..x.len() as isize)
                .map(|position| (position - reach..=position + reach).flat_map(at).collect())
                .collect();
            x = self.along(&around, features);
            x.iter_mut()
                .flatten()
                .for_each(|value| *value *= normal_distribution(*value));
        }
        if sizes.is_padded {
            let last = tokens.iter().rposition(|&token| token != 0.0);
            x.truncate(last.map_or(1, |last| last / slots + 1));
        }
        if sizes.blocks > 0 {
            for (position, row) in x.iter_mut().enumerate() {
                for (at, value) in row.iter_mut().enumerate() {
                    let wave = 10_000_f64.powf((at - at % 2) as f64 / features as f64);
                    let angle = position as f64 / wave;
                    *value += match at % 2 {
                        0 => angle.sin(),
                        _ => angle.cos(),
                    };
                }
            }
        }
        for _ in 0..sizes.blocks {
            let h = self.layer_norm(&x);
            let taken = self.attend(&h, sizes.heads);
            add_rows(&mut x, &taken);
            let h = self.layer_norm(&x);
            add_rows(&mut x, &self.widened(&h, sizes.hidden));
        }
        self.layer_norm(&x)
    }

    /// Query, key, value, and an output of what is found.
    fn attend(&mut self, rows: &[Vec<f64>], heads: usize) -> Vec<Vec<f64>> {
        let features = rows[0].len();
        let [q, k, v] = [(); 3].map(|()| self.along(rows, features));
        let width = features / heads;
        let mut taken = vec![vec![0.0; features]; rows.len()];
        for head in 0..heads {
            let of = head * width..(head + 1) * width;
            for (query, taken) in q.iter().zip(&mut taken) {
                let score = |key: &Vec<f64>| {
                    let terms = query[of.clone()].iter().zip(&key[of.clone()]);
                    terms.map(|(q, k)| q * k).sum::<f64>() / (width as f64).sqrt()
                };
                let scores: Vec<f64> = k.iter().map(|key| score(key).exp()).collect();
                let sum: f64 = scores.iter().sum();
                for (share, value) in scores.iter().zip(&v) {
                    for (taken, value) in taken[of.clone()].iter_mut().zip(&value[of.clone()]) {
                        *taken += share / sum * value;
                    }
                }
            }
        }
        self.along(&taken, features)
    }

    /// Two dense layers, GELU between them.
    fn widened(&mut self, rows: &[Vec<f64>], hidden: usize) -> Vec<Vec<f64>> {
        let mut wide = self.along(rows, hidden);
        wide.iter_mut()
            .flatten()
            .for_each(|value| *value *= normal_distribution(*value));
        self.along(&wide, rows[0].len())
    }

    /// Norms behind the sums, and only the pieces before the padding.
    pub(super) fn bert(&mut self, pieces: &[f64], sizes: BertSizes, outputs: usize) -> Vec<f64> {
        let features = sizes.features;
        let table = self.take(sizes.vocabulary * features);
        let places = self.take(sizes.positions * features);
        let last = pieces.iter().rposition(|&piece| piece != 0.0);
        let seen = &pieces[..last.map_or(1, |last| last + 1)];
        let embed = |(&piece, place): (&f64, &[f64])| {
            let row = &table[piece as usize * features..][..features];
            row.iter()
                .zip(place)
                .map(|(row, place)| row + place)
                .collect()
        };
        let x: Vec<Vec<f64>> = seen
            .iter()
            .zip(places.chunks(features))
            .map(embed)
            .collect();
        let mut x = self.normed_rows(&x, 1e-12);
        for _ in 0..sizes.layers {
            let taken = self.attend(&x, sizes.heads);
            add_rows(&mut x, &taken);
            x = self.normed_rows(&x, 1e-12);
            let wide = self.widened(&x, sizes.hidden);
            add_rows(&mut x, &wide);
            x = self.normed_rows(&x, 1e-12);
        }
        self.dense(&mean_of(&x), outputs)
    }

    pub(super) fn text(&mut self, tokens: &[f64], sizes: TextSizes, outputs: usize) -> Vec<f64> {
        let means = mean_of(&self.encode(tokens, sizes));
        self.dense(&means, outputs)
    }

    /// With what stands at the first of each marker.
    pub(super) fn pair(
        &mut self,
        tokens: &[f64],
        sizes: TextSizes,
        markers: [usize; 2],
        outputs: usize,
    ) -> Vec<f64> {
        let x = self.encode(tokens, sizes);
        let mut features = mean_of(&x);
        for marker in markers {
            let mut positions = tokens.chunks(sizes.slots);
            let at = positions.position(|tokens| tokens[0] as usize == marker);
            features.extend(at.map_or(vec![0.0; sizes.features], |at| x[at].clone()));
        }
        self.dense(&features, outputs)
    }

    /// Minus the logarithm of the probability of these tags among all ways through the chain, over the words.
    pub(super) fn tags(
        &mut self,
        tokens: &[f64],
        sizes: TextSizes,
        count: usize,
        tags: &[u16],
    ) -> f64 {
        let x = self.encode(tokens, sizes);
        let scores = self.along(&x, count);
        self.way(&scores, count, tags)
    }

    /// The same of scores that are sums of the table's rows.
    pub(super) fn chain(
        &mut self,
        tokens: &[f64],
        sizes: TextSizes,
        count: usize,
        tags: &[u16],
    ) -> f64 {
        let sizes = TextSizes {
            features: count,
            ..sizes
        };
        let scores = self.embed(tokens, sizes);
        self.way(&scores, count, tags)
    }

    fn way(&mut self, scores: &[Vec<f64>], count: usize, tags: &[u16]) -> f64 {
        let (steps, first) = (self.take(count * count), self.take(count));
        let prior = |from, to| f64::from(super::tagging::prior(from, to));
        let step = |from: usize, to: usize| steps[from * count + to] + prior(Some(from), to);
        let first = |to: usize| first[to] + prior(None, to);
        let tag = |word: usize| usize::from(tags[word]);
        let mut way = first(tag(0)) + scores[0][tag(0)];
        let mut sums: Vec<f64> = (0..count).map(|tag| first(tag) + scores[0][tag]).collect();
        for word in 1..tags.len() {
            way += step(tag(word - 1), tag(word)) + scores[word][tag(word)];
            let reach = |to: usize| {
                let ways = (0..count).map(|from| (sums[from] + step(from, to)).exp());
                ways.sum::<f64>().ln() + scores[word][to]
            };
            sums = (0..count).map(reach).collect();
        }
        let all: f64 = sums.iter().map(|sum| sum.exp()).sum();
        (all.ln() - way) / tags.len() as f64
    }

    fn group_norm(&mut self, mut image: Image) -> Image {
        let channels = image.shape[0];
        let groups = super::group_norm::groups(channels);
        let group = image.values.len() / groups;
        image
            .values
            .chunks_mut(group)
            .for_each(|values| standardise(values, 1e-5));
        let (scale, shift) = (self.take(channels), self.take(channels));
        let plane = image.values.len() / channels;
        for (channel, values) in image.values.chunks_mut(plane).enumerate() {
            values
                .iter_mut()
                .for_each(|value| *value = *value * scale[channel] + shift[channel]);
        }
        image
    }

    fn normed(&mut self, image: &Image, channels: usize, size: [usize; 3]) -> Image {
        let image = self.convolution(image, channels, size, false);
        self.group_norm(image)
    }

    pub(super) fn perceptron(
        &mut self,
        input: &[f64],
        hidden: &[usize],
        outputs: usize,
    ) -> Vec<f64> {
        let features = hidden
            .iter()
            .fold(input.to_vec(), |x, &width| relu(self.dense(&x, width)));
        self.dense(&features, outputs)
    }

    pub(super) fn cnn_small(&mut self, image: &Image, outputs: usize) -> Vec<f64> {
        let x = halve(&relu_image(self.convolution(image, 5, [3, 1, 0], true)));
        let x = relu(self.dense(&x.values, 10));
        self.dense(&x, outputs)
    }

    pub(super) fn cnn(&mut self, image: &Image, outputs: usize) -> Vec<f64> {
        let x = halve(&relu_image(self.convolution(image, 32, [3, 1, 0], true)));
        let x = halve(&relu_image(self.convolution(&x, 64, [3, 1, 0], true)));
        let x = relu(self.dense(&x.values, 128));
        self.dense(&x, outputs)
    }

    /// From maps that are scattered already: no weight has a part in them.
    pub(super) fn scatter_cnn(&mut self, maps: &Image, outputs: usize) -> Vec<f64> {
        let x = halve(&relu_image(self.convolution(maps, 16, [3, 1, 1], true)));
        let x = relu_image(self.convolution(&x, 32, [3, 1, 1], true));
        self.dense(&x.values, outputs)
    }

    pub(super) fn resnet_gn(
        &mut self,
        image: &Image,
        sizes: [usize; 2],
        outputs: usize,
    ) -> Vec<f64> {
        let [width, depth] = sizes;
        let stride = if image.shape[1].min(image.shape[2]) >= 48 {
            2
        } else {
            1
        };
        let mut x = relu_image(self.normed(image, width, [3, stride, 1]));
        for stage in 0..depth {
            let (channels, stride) = (width << stage, if stage == 0 { 1 } else { 2 });
            let y = relu_image(self.normed(&x, channels, [3, stride, 1]));
            let mut y = self.normed(&y, channels, [3, 1, 1]);
            if y.shape != x.shape {
                x = self.normed(&x, channels, [1, stride, 0]);
            }
            y.values
                .iter_mut()
                .zip(&x.values)
                .for_each(|(y, x)| *y += x);
            x = relu_image(y);
        }
        self.dense(&means(&x), outputs)
    }
}

impl Image {
    pub(super) fn new(shape: [usize; 3], values: Vec<f64>) -> Self {
        Self { shape, values }
    }
}

fn standardise(values: &mut [f64], epsilon: f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count;
    values
        .iter_mut()
        .for_each(|value| *value = (*value - mean) / (variance + epsilon).sqrt());
}

fn means(image: &Image) -> Vec<f64> {
    let plane = image.shape[1] * image.shape[2];
    let planes = image.values.chunks(plane);
    planes
        .map(|values| values.iter().sum::<f64>() / plane as f64)
        .collect()
}

fn add_rows(to: &mut [Vec<f64>], rows: &[Vec<f64>]) {
    let both = to.iter_mut().flatten().zip(rows.iter().flatten());
    both.for_each(|(place, value)| *place += value);
}

/// By its power series, which has lost no digit that matters where |x| < 5.
fn normal_distribution(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / (2.0 * f64::from(n));
        sum += term / f64::from(2 * n + 1);
    }
    0.5 + sum / (2.0 * std::f64::consts::PI).sqrt()
}

fn relu(mut values: Vec<f64>) -> Vec<f64> {
    values.iter_mut().for_each(|value| *value = value.max(0.0));
    values
}

fn relu_image(image: Image) -> Image {
    Image {
        values: relu(image.values),
        ..image
    }
}

fn halve(image: &Image) -> Image {
    let [channels, height, width] = image.shape;
    let shape = [channels, height / 2, width / 2];
    let mut values = Vec::new();
    for position in 0..shape.iter().product() {
        let (channel, rest) = (
            position / (shape[1] * shape[2]),
            position % (shape[1] * shape[2]),
        );
        let (y, x) = (rest / shape[2] * 2, rest % shape[2] * 2);
        let at = |y: usize, x: usize| image.values[(channel * height + y) * width + x];
        values.push(
            at(y, x)
                .max(at(y, x + 1))
                .max(at(y + 1, x))
                .max(at(y + 1, x + 1)),
        );
    }
    Image { shape, values }
}

/// The mean of rows.
fn mean_of(rows: &[Vec<f64>]) -> Vec<f64> {
    let mean =
        |feature: usize| rows.iter().map(|row| row[feature]).sum::<f64>() / rows.len() as f64;
    (0..rows[0].len()).map(mean).collect()
}

pub(super) fn cross_entropy(logits: &[f64], class: usize) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    largest + sum.ln() - logits[class]
}
