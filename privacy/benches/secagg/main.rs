//! What secure aggregation costs a site and the coordinator, and how near that is to what it cannot
//! cost less than.
//!
//! ```text
//! cargo bench -p consilium-privacy --bench secagg
//! ```
//!
//! The table is processor time on one core: this program takes the other cores from itself. Bars are
//! ratios measured in turns in the same run, medians over rounds. At the end, elapsed time on one
//! core and on all.

mod round;

use std::{
    hint::black_box,
    process::ExitCode,
    time::{Duration, Instant},
};

use consilium_privacy::secagg::{
    Terms,
    encoding::{Word, Words, bring_within, encode},
    site,
};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustix::{
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use self::round::{FIRST, Round};

/// Sites with the threshold that each cohort uses: three in ten may drop out.
const COHORTS: [(u16, usize); 3] = [(5, 4), (20, 14), (100, 70)];

const LENGTHS: [usize; 3] = [100_000, 1_000_000, 10_000_000];

/// Drop-outs in percent.
const DROP_OUTS: [u16; 3] = [0, 10, 30];

/// Words that the coordinator sums at once: 1 MiB.
const PART: usize = 1 << 18;

/// Turns that bars are the medians of.
const TURNS: usize = 9;

const MASKING_BAR: f64 = 0.6;
const UPLOAD_BAR: f64 = 1.02;
const SERVER_BAR: f64 = 1.3;

#[expect(clippy::print_stdout, reason = "the figures are this program's result")]
fn main() -> ExitCode {
    let all = sched_getaffinity(None).expect("this thread's own cores");
    let one = first_of(&all);
    sched_setaffinity(None, &one).expect("a core of this thread's");

    println!("processor seconds on one core, 32-bit words");
    println!(
        "{:>5} {:>9} {:>9} {:>9} {:>10} {:>10} {:>12} {:>8}",
        "sites", "length", "drop-outs", "setup", "client", "server", "upload", "x f32"
    );
    let mut upload_ratio: f64 = 0.0;
    for (sites, threshold) in COHORTS {
        for length in LENGTHS {
            let client = client(sites, threshold, length);
            let bytes = 4 * length + client.sent;
            let ratio = bytes as f64 / (4 * length) as f64;
            if length >= 1_000_000 {
                upload_ratio = upload_ratio.max(ratio);
            }
            for percent in DROP_OUTS {
                let leaving = sites * percent / 100;
                if usize::from(sites - leaving) < threshold {
                    continue;
                }
                let server = server(sites, threshold, leaving, length);
                println!(
                    "{sites:>5} {length:>9} {leaving:>9} {:>9.4} {:>10.4} {server:>10.4} {bytes:>12} {ratio:>8.4}",
                    client.setup, client.upload
                );
            }
        }
    }

    let masking = masking_ratio();
    println!(
        "masking, of the rate of a bare keystream-and-add loop: {masking:.2} (at least {MASKING_BAR})"
    );
    println!(
        "upload, of the update in f32, from a million parameters on: {upload_ratio:.4} (at most {UPLOAD_BAR})"
    );
    let server = server_ratio();
    println!(
        "server, of the plain sum and the keystream that it needs: {server:.2} (at most {SERVER_BAR})"
    );

    let single = elapsed_of_both();
    sched_setaffinity(None, &all).expect("this thread's own cores");
    let (client, server) = elapsed_of_both();
    println!(
        "elapsed on {} cores, of one: client {:.2}, server {:.2} times as fast",
        all.count(),
        single.0 / client,
        single.1 / server
    );

    let met = masking >= MASKING_BAR && upload_ratio <= UPLOAD_BAR && server <= SERVER_BAR;
    match met {
        true => ExitCode::SUCCESS,
        false => {
            println!("too slow: a bar is missed");
            ExitCode::FAILURE
        }
    }
}

fn first_of(all: &CpuSet) -> CpuSet {
    let mut one = CpuSet::new();
    let first = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core));
    one.set(first.expect("this program runs somewhere"));
    one
}

struct Client {
    setup: f64,
    upload: f64,
    sent: usize,
}

fn update(terms: &Terms) -> Vec<f32> {
    let mut update: Vec<f32> = (0..terms.main()).map(|i| (i % 17) as f32 - 8.0).collect();
    bring_within(&mut update, 1.0);
    update
}

/// The first site's costs: keys and shares; encoding and masking its update.
fn client(sites: u16, threshold: usize, length: usize) -> Client {
    let mut round = Round::ready(sites, length, threshold);
    let update = update(&round.terms);
    let start = processor_seconds();
    let vector = encode(&round.terms, &update, 7, &[]).expect("within the terms");
    let input = site::Input::Update {
        vector,
        sequence: None,
    };
    let site = round.sites.get_mut(&FIRST).expect("a member");
    let effects = site
        .handle(input, std::time::SystemTime::UNIX_EPOCH)
        .expect("ready");
    let upload = processor_seconds() - start;
    round.perform(FIRST, effects);
    // A confirmation and an answer are still to come: a site and a digest, a share for each site.
    let later = 98 + 100 + 35 * usize::from(sites);
    Client {
        setup: round.setup,
        upload,
        sent: round.sent + later,
    }
}

/// The coordinator's: messages, adding the uploads, taking the masks away. All uploads are the same
/// bytes here; the sum does not care.
fn server(sites: u16, threshold: usize, leaving: u16, length: usize) -> f64 {
    let staying = sites - leaving;
    let (opening, messages) = Round::ready(sites, 10, threshold).open(staying);
    let upload = vec![0x5A_u8; 4 * length];
    let start = processor_seconds();
    sum(&opening, staying, &upload);
    messages + processor_seconds() - start
}

fn sum(opening: &consilium_privacy::secagg::coordinator::Opening, staying: u16, upload: &[u8]) {
    for (index, bytes) in upload.chunks(4 * PART).enumerate() {
        let mut part = Words::zeros(Word::U32, bytes.len() / 4);
        for _ in 0..staying {
            assert!(part.add(black_box(bytes)));
        }
        opening.remove(index * PART, &mut part);
        black_box(&part);
    }
}

/// A site's whole upload step after encoding, to the bare loop that makes as much keystream and adds
/// it to the same words.
fn masking_ratio() -> f64 {
    let (sites, threshold, length) = (20, 14, 1_000_000);
    let mut words = vec![0_u32; length];
    let ratios = (0..TURNS).map(|_| {
        let mut round = Round::ready(sites, length, threshold);
        let update = update(&round.terms);
        let vector = encode(&round.terms, &update, 7, &[]).expect("within the terms");
        let input = site::Input::Update {
            vector,
            sequence: None,
        };
        let site = round.sites.get_mut(&FIRST).expect("a member");
        let start = processor_seconds();
        let effects = site
            .handle(input, std::time::SystemTime::UNIX_EPOCH)
            .expect("ready");
        let ours = processor_seconds() - start;
        black_box(effects);

        let start = processor_seconds();
        bare(&mut words, usize::from(sites), true);
        (processor_seconds() - start) / ours
    });
    median(ratios.collect())
}

/// The coordinator with two drop-outs of twenty, to the plain sum of the vectors and the keystream
/// of the masks.
fn server_ratio() -> f64 {
    let (sites, threshold, length, leaving) = (20, 14, 1_000_000, 2);
    let staying = sites - leaving;
    let upload = vec![0x5A_u8; 4 * length];
    let vector = vec![0x5A5A_5A5A_u32; length];
    let ratios = (0..TURNS).map(|_| {
        let (opening, _) = Round::ready(sites, 10, threshold).open(staying);
        let start = processor_seconds();
        sum(&opening, staying, &upload);
        let ours = processor_seconds() - start;

        let start = processor_seconds();
        let mut total = vec![0_u32; length];
        for _ in 0..staying {
            for (total, word) in total.iter_mut().zip(black_box(&vector)) {
                *total = total.wrapping_add(*word);
            }
        }
        bare(&mut total, opening.masks(), false);
        black_box(&total);
        ours / (processor_seconds() - start)
    });
    median(ratios.collect())
}

/// So many keystreams over the words, in chunks of 16 KiB, and added or not.
fn bare(words: &mut [u32], masks: usize, add: bool) {
    let keys: Vec<_> = (0..masks)
        .map(|mask| {
            let key = UnboundKey::new(&AES_256_GCM, &[mask as u8; 32]).expect("32 bytes");
            LessSafeKey::new(key)
        })
        .collect();
    let mut buffer = vec![0; 1 << 14];
    for (index, chunk) in (0_u64..).zip(words.chunks_mut(1 << 12)) {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&index.to_be_bytes());
        for key in &keys {
            let bytes = &mut buffer[..4 * chunk.len()];
            bytes.fill(0);
            let _tag = key
                .seal_in_place_separate_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::empty(),
                    bytes,
                )
                .expect("16 KiB are within the limit");
            if add {
                for (word, bytes) in chunk.iter_mut().zip(bytes.as_chunks().0) {
                    *word = word.wrapping_add(u32::from_le_bytes(*bytes));
                }
            }
        }
        black_box(&buffer);
    }
}

/// Seconds by the clock of a site's upload and of the coordinator's sum, ten million parameters.
fn elapsed_of_both() -> (f64, f64) {
    let (sites, threshold, length) = (20, 14, 10_000_000);
    let mut round = Round::ready(sites, length, threshold);
    let update = update(&round.terms);
    let vector = encode(&round.terms, &update, 7, &[]).expect("within the terms");
    let input = site::Input::Update {
        vector,
        sequence: None,
    };
    let site = round.sites.get_mut(&FIRST).expect("a member");
    let start = Instant::now();
    black_box(
        site.handle(input, std::time::SystemTime::UNIX_EPOCH)
            .expect("ready"),
    );
    let client = start.elapsed();
    let (opening, _) = Round::ready(sites, 10, threshold).open(18);
    let upload = vec![0x5A_u8; 4 * length];
    let start = Instant::now();
    sum(&opening, 18, &upload);
    let seconds = |time: Duration| time.as_secs_f64();
    (seconds(client), seconds(start.elapsed()))
}

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
