//! `resnet-gn`: residual blocks with group norm and weight-standardised convolutions.

use super::{
    Architecture,
    activation::{relu, sum_of},
    blueprint::Blueprint,
    convolution::{Convolution, Window},
    dense::Dense,
    group_norm::GroupNorm,
    pooling::average,
    tape::{Tape, Value},
};

/// Shorter sides from this many pixels on are halved by the stem.
const LARGE: usize = 48;

/// Channels of the first stage, and number of stages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) width: usize,
    pub(super) depth: usize,
}

/// Stem 3×3, then one block a stage with twice the channels and half the resolution of the last,
/// the mean of each channel, dense outputs.
pub(super) struct ResnetGn {
    stem: Normed,
    blocks: Vec<Block>,
    fc: Dense,
    /// Channels, height and width at the end.
    last: [usize; 3],
}

/// A convolution with standardised weights and the norm that follows it.
#[derive(Clone, Copy)]
struct Normed {
    conv: Convolution,
    norm: GroupNorm,
}

/// 3×3, norm, ReLU, 3×3, norm, plus the input (through 1×1 and norm where the shape changes), ReLU.
#[derive(Clone, Copy)]
struct Block {
    first: Normed,
    second: Normed,
    short: Option<Normed>,
}

impl ResnetGn {
    pub(super) fn new(on: &mut Blueprint, input: [usize; 3], sizes: Sizes, outputs: usize) -> Self {
        let stride = if input[1].min(input[2]) >= LARGE {
            2
        } else {
            1
        };
        let window = Window::new(3, stride, 1);
        let (stem, mut shape) = Normed::new(on, ["stem", "gn"], input, sizes.width, window);
        let mut block = |stage: usize| {
            let stride = if stage == 0 { 1 } else { 2 };
            let name = format!("b{}", stage + 1);
            let (block, next) = Block::new(on, &name, shape, sizes.width << stage, stride);
            shape = next;
            block
        };
        let blocks = (0..sizes.depth).map(&mut block).collect();
        let fc = Dense::last(on, "fc", shape[0], outputs);
        Self {
            stem,
            blocks,
            fc,
            last: shape,
        }
    }
}

impl Block {
    fn new(
        on: &mut Blueprint,
        name: &str,
        input: [usize; 3],
        channels: usize,
        stride: usize,
    ) -> (Self, [usize; 3]) {
        let name = |part: &str| format!("{name}.{part}");
        let window = Window::new(3, stride, 1);
        let names = [&*name("conv1"), &*name("gn1")];
        let (first, middle) = Normed::new(on, names, input, channels, window);
        let names = [&*name("conv2"), &*name("gn2")];
        let (second, output) = Normed::new(on, names, middle, channels, Window::new(3, 1, 1));
        let short = (input != output).then(|| {
            let window = Window::new(1, stride, 0);
            Normed::new(
                on,
                [&*name("short.0"), &*name("short.1")],
                input,
                channels,
                window,
            )
            .0
        });
        (
            Self {
                first,
                second,
                short,
            },
            output,
        )
    }

    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let x = relu(self.first.forward(input.again(), tape), tape);
        let x = self.second.forward(x, tape);
        let short = match &self.short {
            Some(short) => short.forward(input, tape),
            None => input,
        };
        relu(sum_of(x, short, tape), tape)
    }
}

impl Normed {
    fn new(
        on: &mut Blueprint,
        names: [&str; 2],
        input: [usize; 3],
        channels: usize,
        window: Window,
    ) -> (Self, [usize; 3]) {
        let (conv, output) = Convolution::standardised(on, names[0], input, channels, window);
        (
            Self {
                conv,
                norm: GroupNorm::new(on, names[1], output),
            },
            output,
        )
    }

    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let x = self.conv.forward(input, tape);
        self.norm.forward(x, tape)
    }
}

impl Architecture for ResnetGn {
    fn forward(&self, input: Value, tape: &mut Tape) -> Value {
        let stem = self.stem;
        let mut x = tape.stretch(input, move |x, tape| relu(stem.forward(x, tape), tape));
        for &block in &self.blocks {
            x = tape.stretch(x, move |x, tape| block.forward(x, tape));
        }
        tape.show(&x, self.last);
        let x = average(x, self.last[1] * self.last[2], tape);
        self.fc.forward(x, tape)
    }
}
