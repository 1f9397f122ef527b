//! Noise on a vector, beside two others in the same run:
//!
//! - a float ziggurat (`rand_distr`) rounded to the lattice, from the same kind of keystream. Fast,
//!   but its distribution is not proved, and its time depends on the draw;
//! - OpenDP's exact sampler, of the same deviation.
//!
//! ```text
//! cargo bench -p consilium-privacy --bench noise
//! ```
//!
//! Processor time of this thread. Rates and ratios are medians over rounds in which all take turns:
//! a ratio is taken within a round, so that what else the machine does falls on both.

use std::{convert::Infallible, hint::black_box, process::ExitCode};

use consilium_privacy::noise::{LATTICE_DEVIATION, LatticeNoise};
use opendp::traits::samplers::sample_discrete_gaussian;
use rand::{TryRng, distr::Distribution};
use rand_distr::StandardNormal;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 31;

/// A layer of a network, small enough that memory is not what is measured.
const LENGTH: usize = 1 << 16;

/// Passes over it in one round, some hundredths of a second.
const PASSES: usize = 60;

/// OpenDP takes microseconds for each.
const OPENDP_DRAWS: usize = 10_000;

/// Least ratios to the ziggurat and to OpenDP: in constant time, then in varying time.
const BARS: [(f64, f64); 2] = [(0.2, 50.0), (0.6, 150.0)];

#[expect(clippy::print_stdout, reason = "the figures are this program's result")]
fn main() -> ExitCode {
    let mut values = vec![0_i64; LENGTH];
    let mut ours = LatticeNoise::fresh().expect("the system has randomness");
    let mut keystream = AesKeystream::fresh();
    let (mut constant, mut varying, mut ziggurat, mut opendp) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        varying.push(rate(PASSES * LENGTH, || {
            for _ in 0..PASSES {
                ours.add_in_varying_time(black_box(&mut values));
            }
        }));
        constant.push(rate(PASSES * LENGTH, || {
            for _ in 0..PASSES {
                ours.add(black_box(&mut values));
            }
        }));
        ziggurat.push(rate(PASSES * LENGTH, || {
            for _ in 0..PASSES {
                for value in black_box(&mut values) {
                    *value = value.wrapping_add(rounded_float(&mut keystream));
                }
            }
        }));
        opendp.push(rate(OPENDP_DRAWS, || {
            for value in &mut black_box(&mut values)[..OPENDP_DRAWS] {
                let scale = u64::try_from(LATTICE_DEVIATION).expect("positive");
                let draw = sample_discrete_gaussian(scale.into()).expect("a sound scale");
                *value = value.wrapping_add(i64::try_from(draw).expect("a few deviations"));
            }
        }));
    }
    println!("million draws a second, one core    x ziggurat   x OpenDP");
    let show = |name: &str, rates: &[f64]| {
        let ratio = |others: &[f64]| median(rates.iter().zip(others).map(|(a, b)| a / b).collect());
        let (float, exact) = (ratio(&ziggurat), ratio(&opendp));
        let millions = median(rates.to_vec()) / 1e6;
        println!("  {name:24} {millions:8.2} {float:12.2} {exact:10.0}");
        (float, exact)
    };
    let ours = [
        show("constant time", &constant),
        show("varying time", &varying),
    ];
    show("float ziggurat, AES", &ziggurat);
    show("OpenDP, exact", &opendp);
    for ((float, exact), (least_float, least_exact)) in ours.into_iter().zip(BARS) {
        if float < least_float || exact < least_exact {
            println!("too slow: at least {least_float} x and {least_exact} x are expected");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Draws for each second of this thread's processor time.
fn rate(draws: usize, work: impl FnOnce()) -> f64 {
    let start = processor_seconds();
    work();
    draws as f64 / (processor_seconds() - start)
}

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounded_float(bits: &mut AesKeystream) -> i64 {
    // A sum with 1.5 · 2^52 has no bits behind the point, which rounds; without SSE 4.1 the
    // library's rounding is a call and would slow the ziggurat down.
    const ROUND: f64 = 1.5 * (1_u64 << 52) as f64;
    let normal: f64 = StandardNormal.sample(bits);
    (normal * LATTICE_DEVIATION as f64 + ROUND - ROUND) as i64
}

/// AES-256-GCM over zeros, as this crate's own keystream.
struct AesKeystream {
    key: LessSafeKey,
    nonce: u64,
    buffer: Box<[u8; 1 << 14]>,
    used: usize,
}

impl AesKeystream {
    fn fresh() -> Self {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).expect("randomness");
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes");
        Self {
            key: LessSafeKey::new(key),
            nonce: 0,
            buffer: Box::new([0; 1 << 14]),
            used: 1 << 14,
        }
    }

    #[cold]
    fn refill(&mut self) {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.nonce.to_be_bytes());
        self.nonce += 1;
        self.buffer.fill(0);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let _tag = (self.key)
            .seal_in_place_separate_tag(nonce, Aad::empty(), self.buffer.as_mut())
            .expect("16 KiB are within the limit");
        self.used = 0;
    }
}

impl TryRng for AesKeystream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| word as u32)
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        if self.used == self.buffer.len() {
            self.refill();
        }
        let (words, _) = self.buffer[self.used..].as_chunks();
        self.used += 8;
        Ok(u64::from_le_bytes(words[0]))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for part in bytes.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
        Ok(())
    }
}
