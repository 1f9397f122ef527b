//! Masks: words of a generator that are added to a vector and subtracted again.
//!
//! The generator is AES-256-GCM over zeros, in chunks of 16 KiB, whose nonce is the chunk's number;
//! the tag is thrown away. Each segment of 2²² blocks (64 MiB) has a key of its own, so that the
//! blocks of a key, which never repeat, stay indistinguishable from random ones (2⁻⁸⁴).
//!
//! All masks of a vector are applied to a chunk before the next chunk is touched: the chunk stays
//! in the nearest cache. Chunks are independent and shared out over all cores.

use std::{num::NonZeroUsize, thread};

use ring::hkdf::Prk;
use zeroize::Zeroize;

use super::{
    context::Context,
    encoding::{
        Words,
        words::{add_u32, add_u64, subtract_u32, subtract_u64},
    },
    keys::{expand, extract},
    message::Secret,
};
use crate::keystream::Pages;

/// Bytes made at once.
pub(super) const CHUNK: usize = 1 << 14;

/// Chunks under one key.
const SEGMENT: u64 = (1 << 26) / CHUNK as u64;

/// What a mask is for. One seed never serves both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Between two sites: one adds it, the other subtracts it.
    Pair,
    /// A site's own.
    Own,
}

impl Role {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Pair => b"pair",
            Self::Own => b"self",
        }
    }
}

/// Whether a mask is added or taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

impl Sign {
    pub(super) fn opposite(self) -> Self {
        match self {
            Self::Plus => Self::Minus,
            Self::Minus => Self::Plus,
        }
    }
}

/// A mask as long as needed.
pub(super) struct Mask {
    prk: Prk,
    role: Role,
    sign: Sign,
}

impl Mask {
    pub(super) fn new(context: &Context, seed: &Secret, role: Role, sign: Sign) -> Self {
        let prk = extract(context, seed.as_slice());
        Self { prk, role, sign }
    }

    /// The key of a segment.
    pub(super) fn key(&self, segment: u32) -> Secret {
        let segment = segment.to_be_bytes();
        expand(
            &self.prk,
            &[b"consilium/sa1/prg\0", self.role.label(), &segment],
        )
    }
}

/// Applies all masks to the words of a vector from `first` on. On all cores.
pub(super) fn apply(masks: &[Mask], first: usize, words: &mut Words) {
    match words {
        Words::U32(words) => share_out(masks, first, words, add_u32, subtract_u32),
        Words::U64(words) => share_out(masks, first, words, add_u64, subtract_u64),
    }
}

type Operation<W> = fn(&mut [W], &[u8]);

/// Cuts the words into as many runs of whole chunks as there are cores.
fn share_out<W: Send>(
    masks: &[Mask],
    first: usize,
    words: &mut [W],
    add: Operation<W>,
    subtract: Operation<W>,
) {
    let chunk = CHUNK / size_of::<W>();
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let chunks = (first % chunk + words.len()).div_ceil(chunk);
    let run = chunks.div_ceil(cores).max(1) * chunk;
    if chunks <= run / chunk {
        return apply_run(masks, first, words, add, subtract);
    }
    thread::scope(|scope| {
        let (mut first, mut rest) = (first, words);
        while !rest.is_empty() {
            // The first run ends where a chunk does.
            let (now, later) = rest.split_at_mut(rest.len().min(run - first % chunk));
            let from = first;
            first += now.len();
            rest = later;
            scope.spawn(move || apply_run(masks, from, now, add, subtract));
        }
    });
}

fn apply_run<W>(
    masks: &[Mask],
    first: usize,
    mut words: &mut [W],
    add: Operation<W>,
    subtract: Operation<W>,
) {
    let chunk = CHUNK / size_of::<W>();
    let mut keystream = Box::new([0; CHUNK]);
    let (mut segment, mut pages) = (None, Vec::new());
    let mut position = first;
    while !words.is_empty() {
        let number = (position / chunk) as u64;
        if segment != Some(number / SEGMENT) {
            segment = Some(number / SEGMENT);
            // A vector has at most 2^32 words, 512 segments.
            let segment = u32::try_from(number / SEGMENT).expect("a vector has few segments");
            pages = masks
                .iter()
                .map(|mask| Pages::new(&mask.key(segment)))
                .collect();
        }
        let skipped = position % chunk;
        let (now, later) = words.split_at_mut(words.len().min(chunk - skipped));
        let bytes = skipped * size_of::<W>()..(skipped + now.len()) * size_of::<W>();
        for (mask, pages) in masks.iter().zip(&pages) {
            pages.fill(number, &mut keystream[..bytes.end]);
            let operation = match mask.sign {
                Sign::Plus => add,
                Sign::Minus => subtract,
            };
            operation(now, &keystream[bytes.clone()]);
        }
        position += now.len();
        words = later;
    }
    keystream.zeroize();
}
