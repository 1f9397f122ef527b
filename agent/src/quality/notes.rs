//! What a check looks at in notes: empty, short, long, damaged, without content, there twice.
//!
//! Near copies are found by MinHash (Broder 1997): 128 least hash values of a note's runs of three
//! words stand in for the set of all of them, and the share of equal ones estimates the Jaccard
//! similarity of two notes, with a standard error of at most 0.045. Bands of four decide who is
//! compared at all (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3): two notes
//! of similarity 0.7 meet with probability 1 - (1 - 0.7^4)^32 > 0.999.

use std::hash::{DefaultHasher, Hash, Hasher};

use consilium_models::text::{Cleaned, words};
use consilium_privacy::deidentify::Deidentifier;
use consilium_proto::Digest;

use super::{
    Settings, copies,
    near::{self, Likeness},
    records::Records,
    report::{Findings, Kind},
};

/// Hash functions of a signature.
const FUNCTIONS: usize = 128;
/// Values of a band.
const BAND: usize = 4;
/// Words of a run.
const RUN: usize = 3;
/// Estimated similarity from which two notes are nearly the same.
const LEAST_SIMILARITY: f64 = 0.7;
/// Words besides identifiers and the names of their fields below which a note has no content.
const LEAST_CONTENT: usize = 3;

/// Words that name what stands behind them on a form.
const FIELDS: [&str; 36] = [
    "address",
    "admission",
    "admitted",
    "age",
    "bed",
    "birth",
    "born",
    "date",
    "discharge",
    "dob",
    "doctor",
    "dr",
    "email",
    "fax",
    "female",
    "hospital",
    "id",
    "insurance",
    "mail",
    "male",
    "mr",
    "mrn",
    "mrs",
    "ms",
    "name",
    "no",
    "number",
    "of",
    "patient",
    "phone",
    "room",
    "sex",
    "ssn",
    "tel",
    "ward",
    "years",
];
/// Characters of such words in Chinese; each is a word of its own.
const CHINESE_FIELDS: &str =
    "姓名患者性别男女年龄岁住院门诊病案床号码电话手机地址日期出生身份证医生师科室就卡编";

/// The notes looked at so far.
#[derive(Default)]
pub(super) struct Notes {
    seen: Vec<Seen>,
}

struct Seen {
    record: usize,
    digest: Digest,
    signature: Signature,
}

impl Notes {
    pub(super) fn add(
        &mut self,
        record: usize,
        text: &str,
        settings: &Settings,
        records: &Records,
        findings: &mut Findings,
    ) {
        let cleaned = Cleaned::new(text);
        let lower = cleaned.text().to_lowercase();
        let spans = words(&lower);
        let all = spans.iter().filter_map(|span| span.of(&lower));
        let said: Vec<&str> = all.filter(|word| is_word(word)).collect();
        let mut found = |kind, measure| findings.add(kind, [records.place(record)], measure, "");
        let damaged = damages(text);
        if damaged > 0 {
            found(Kind::WrongEncoding, damaged as f64);
        }
        if said.is_empty() {
            found(Kind::Empty, text.len() as f64);
            return;
        }
        let count = said.len() as f64;
        if said.len() < settings.least_words {
            found(Kind::TooShort, count);
        } else if said.len() > settings.most_words {
            found(Kind::TooLong, count);
        }
        if let Some(deidentifier) = &settings.deidentifier
            && let Some(besides) = content_besides(text, deidentifier)
        {
            found(Kind::OnlyIdentifiers, besides as f64);
        }
        self.seen.push(Seen {
            record,
            digest: Digest::plain(said.join(" ").as_bytes()),
            signature: Signature::of(&said),
        });
    }

    pub(super) fn finish(&self, records: &Records, findings: &mut Findings) {
        let contents = self.seen.iter().enumerate();
        let mut equal = copies::by_content(contents.map(|(at, seen)| (at, seen.digest)));
        let firsts = equal
            .iter()
            .filter_map(|members| self.seen.get(*members.first()?));
        let signatures: Vec<Signature> = firsts.map(|seen| seen.signature.clone()).collect();
        for member in equal.iter_mut().flatten() {
            *member = self.seen[*member].record;
        }
        let mut nearly = near::groups(&signatures);
        for group in &mut nearly {
            // People read similarities.
            group.farthest = 1.0 - group.farthest;
        }
        copies::report(&equal, &nearly, records, findings);
    }
}

fn is_word(word: &str) -> bool {
    word.chars().any(char::is_alphanumeric)
}

/// The words besides identifiers, if there are identifiers and hardly anything else.
fn content_besides(text: &str, deidentifier: &Deidentifier) -> Option<usize> {
    let found = deidentifier.find(text);
    let mut rest = String::with_capacity(text.len());
    let mut end = 0;
    for identifier in &found {
        rest.push_str(text.get(end..identifier.range.start).unwrap_or_default());
        rest.push(' ');
        end = identifier.range.end;
    }
    rest.push_str(text.get(end..).unwrap_or_default());
    let rest = rest.to_lowercase();
    let spans = words(&rest);
    let besides = spans.iter().filter_map(|span| span.of(&rest));
    let besides = besides.filter(|word| {
        let has_letters = word.chars().any(char::is_alphabetic);
        has_letters && !FIELDS.contains(word) && !CHINESE_FIELDS.contains(word)
    });
    let besides = besides.take(LEAST_CONTENT).count();
    (!found.is_empty() && besides < LEAST_CONTENT).then_some(besides)
}

/// Places at which a text was read in another encoding than it was written in: UTF-8 read as
/// Windows-1252 (`Ã©`, `â€™`), characters that could not be read at all, control characters of
/// ISO 8859, and what a failed detour over GBK leaves.
fn damages(text: &str) -> usize {
    let mut damages = text.matches("锟斤拷").count();
    let mut run = Vec::new();
    for c in text.chars().chain(['\n']) {
        damages += usize::from(c == char::REPLACEMENT_CHARACTER);
        match windows_1252(c) {
            Some(byte) => run.push(byte),
            None => {
                damages += misread(&run);
                run.clear();
            }
        }
    }
    damages
}

/// Characters of UTF-8 in a run of bytes above 127, as far as they are some that people write; controls
/// that stand alone count too.
fn misread(run: &[u8]) -> usize {
    let count = |chunk: std::str::Utf8Chunk<'_>| {
        let written = chunk.valid().chars().filter(|&c| {
            let is_letter = matches!(c, '\u{A0}'..='\u{17F}' | '\u{370}'..='\u{4FF}');
            is_letter || matches!(c, '\u{2000}'..='\u{22FF}' | '\u{3000}'..='\u{9FFF}' | '\u{FF00}'..='\u{FFEF}')
        });
        written.count()
    };
    run.utf8_chunks().map(count).sum()
}

/// The byte above 127 that Windows-1252 writes a character with.
fn windows_1252(c: char) -> Option<u8> {
    // The bytes 0x80 to 0x9F in order; where none is assigned, the control of ISO 8859 is used.
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8D}', 'Ž',
        '\u{8F}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9D}',
        'ž', 'Ÿ',
    ];
    match c {
        '\u{80}'..='\u{FF}' => u8::try_from(u32::from(c)).ok(),
        c => {
            let place = HIGH.iter().position(|&high| high == c)?;
            u8::try_from(0x80 + place).ok()
        }
    }
}

/// Least hash values of a note's runs of words.
#[derive(Clone)]
struct Signature([u32; FUNCTIONS]);

impl Signature {
    fn of(words: &[&str]) -> Self {
        let mut least = [u32::MAX; FUNCTIONS];
        for run in words.windows(RUN.min(words.len().max(1))) {
            let mut hasher = DefaultHasher::new();
            run.hash(&mut hasher);
            let hash = hasher.finish();
            for (at, least) in (0_u64..).zip(&mut least) {
                // Multiply-shift by odd numbers from the golden ratio (Dietzfelbinger et al. 1997).
                let factor = (2 * at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
                let value = (hash ^ (hash >> 29) ^ at.wrapping_mul(0xD1B5_4A32_D192_ED03))
                    .wrapping_mul(factor);
                *least = (*least).min((value >> 32) as u32);
            }
        }
        Self(least)
    }

    fn similarity(&self, other: &Self) -> f64 {
        let equal = self
            .0
            .iter()
            .zip(&other.0)
            .filter(|(one, other)| one == other);
        equal.count() as f64 / FUNCTIONS as f64
    }
}

impl Likeness for Signature {
    fn buckets(&self) -> impl Iterator<Item = u64> {
        (0_u64..).zip(self.0.chunks_exact(BAND)).map(|band| {
            let mut hasher = DefaultHasher::new();
            band.hash(&mut hasher);
            hasher.finish()
        })
    }

    fn probes(&self) -> impl Iterator<Item = u64> {
        self.buckets()
    }

    fn may_be_like(&self, _: &Self) -> bool {
        true
    }

    fn difference(&self, other: &Self) -> Option<f64> {
        let similarity = self.similarity(other);
        (similarity >= LEAST_SIMILARITY).then_some(1.0 - similarity)
    }
}

#[cfg(test)]
mod tests {
    use consilium_models::random::Random;

    use super::*;

    #[test]
    fn utf_8_read_as_windows_1252_is_seen_and_accents_are_not() {
        for (text, count) in [
            ("fi\u{c3}\u{a8}vre, \u{c2}\u{b0}C", 2),
            ("the patient\u{e2}\u{20ac}\u{2122}s", 1),
            ("a\u{fffd}b", 1),
            ("\u{e5}\u{2019}\u{b3}\u{e5}\u{2014}\u{bd}", 2),
            ("锟斤拷", 1),
            ("fièvre à 39 °C, Müller, “naïve”", 0),
            ("« MARCHÉ»", 0),
            ("咳嗽三天，伴发热", 0),
            ("", 0),
        ] {
            assert_eq!(damages(text), count, "{text:?}");
        }
    }

    /// The standard error at 0.6 and 128 functions is 0.043: four of them.
    #[test]
    fn signatures_estimate_the_share_of_common_runs() {
        let mut random = Random::new(&[9]);
        let all: Vec<String> = (0..1200).map(|_| random.bits().to_string()).collect();
        let words: Vec<&str> = all.iter().map(String::as_str).collect();
        let one = Signature::of(&words[..800]);
        for common in [800, 700, 600, 400, 0] {
            let other = Signature::of(&words[800 - common..1600 - common.max(400)]);
            let length = 1600 - common.max(400) - (800 - common);
            let shared = (common.max(RUN - 1) - (RUN - 1)) as f64;
            let union = (800 - 2) as f64 + (length - 2) as f64 - shared;
            let expected = shared / union;
            let found = one.similarity(&other);
            assert!(
                (found - expected).abs() < 0.17,
                "{common}: {found} {expected}"
            );
        }
        assert_eq!(one.difference(&one), Some(0.0));
    }

    #[test]
    fn a_form_without_content_is_nothing_but_identifiers() {
        let deidentifier = Deidentifier::new(&Default::default()).expect("no lists");
        let of = |text: &str| content_besides(text, &deidentifier);
        assert_eq!(
            of("Name: John Smith, DOB: 03/04/1961, Tel: 617-555-0134"),
            Some(0)
        );
        assert_eq!(
            of("Name: John Smith. Cough and fever for three days."),
            None
        );
        assert_eq!(of("Cough."), None, "no identifier");
    }
}
