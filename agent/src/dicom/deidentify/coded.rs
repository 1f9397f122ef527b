//! Coded values that may stay: words of a closed vocabulary, and codes of public coding schemes.

use std::{collections::HashSet, sync::LazyLock};

use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

const WORDS: &str = include_str!("coded_words.txt");

/// Whether a coded string (CS) is of the closed vocabulary: a word of the list, several of them with blanks
/// between, or directions such as `AFR`. Anything else may be somebody's name.
pub(super) fn is_word(value: &str) -> bool {
    static VOCABULARY: LazyLock<HashSet<&str>> = LazyLock::new(|| {
        WORDS
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(str::split_whitespace)
            .collect()
    });
    value
        .split_ascii_whitespace()
        .all(|word| VOCABULARY.contains(word) || is_direction(word))
}

/// One letter each for the axes of the body: anterior or posterior, right or left, head or feet.
fn is_direction(word: &str) -> bool {
    let axes = ["AP", "RL", "HF"];
    let of = |axis: &str| word.chars().filter(|&c| axis.contains(c)).count();
    let known: usize = axes.into_iter().map(of).sum();
    known == word.chars().count() && axes.into_iter().all(|axis| of(axis) <= 1)
}

/// Whether an item is an entry of a public coding scheme and its code has that scheme's form.
///
/// The meaning beside it is free text all the same.
pub(super) fn is_public_code(item: &InMemDicomObject) -> bool {
    let text = |tag| Some(item.get(tag)?.to_str().ok()?.trim().to_owned());
    let (Some(scheme), Some(code)) = (text(tags::CODING_SCHEME_DESIGNATOR), text(tags::CODE_VALUE))
    else {
        return false;
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
    match scheme.as_str() {
        "DCM" => code.len() <= 6 && digits(&code),
        "SCT" => (6..=18).contains(&code.len()) && digits(&code) && has_verhoeff_digit(&code),
        "SRT" | "SNM3" | "99SDM" => code.split_once('-').is_some_and(|(axis, rest)| {
            (1..=2).contains(&axis.len())
                && axis.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && rest.len() <= 5
                && hexadecimal(rest)
        }),
        "LN" => code.split_once('-').is_some_and(|(number, check)| {
            number.len() <= 6 && digits(number) && check.len() == 1 && digits(check)
        }),
        // Numbers of sections of the ECG standard.
        "SCPECG" => {
            code.len() <= 12
                && code
                    .split(['.', '-'])
                    .all(|part| part.len() <= 2 && digits(part))
        }
        "UCUM" => UNITS.contains(&code.as_str()),
        _ => false,
    }
}

/// The units that images and reports of images use. UCUM itself allows any text in braces.
const UNITS: [&str; 42] = [
    "1", "%", "mm", "cm", "m", "um", "nm", "mm2", "cm2", "mm3", "cm3", "ml", "l", "s", "ms", "us",
    "min", "h", "d", "deg", "rad", "[hnsf'U]", "Hz", "kHz", "MHz", "Gy", "mGy", "cGy", "mSv", "Bq",
    "MBq", "Bq/ml", "kV", "mA", "mA.s", "mV", "uV", "g", "kg", "{ratio}", "{counts}", "{pixels}",
];

/// Verhoeff's check digit, which every SNOMED CT identifier ends with: a record number passes one time in
/// ten.
fn has_verhoeff_digit(digits: &str) -> bool {
    const PERMUTATION: [usize; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let mut sum = 0;
    for (at, byte) in digits.bytes().rev().enumerate() {
        let mut digit = usize::from(byte.wrapping_sub(b'0')) % 10;
        for _ in 0..at % 8 {
            digit = PERMUTATION[digit]; // a digit is below 10
        }
        sum = dihedral(sum, digit);
    }
    sum == 0
}

/// The product in the dihedral group of ten elements.
fn dihedral(a: usize, b: usize) -> usize {
    match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b) % 5 + 5,
        (false, true) => (a + 10 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, VR};

    use super::*;

    fn code(scheme: &str, value: &str) -> InMemDicomObject {
        InMemDicomObject::from_element_iter([
            DataElement::new(tags::CODE_VALUE, VR::SH, value),
            DataElement::new(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme),
        ])
    }

    #[test]
    fn words_of_the_standard_stay_and_names_do_not() {
        for word in [
            "MONOCHROME2",
            "PALETTE COLOR",
            "YBR_FULL_422",
            "AFR",
            "HFS",
            "CHEST",
            "",
        ] {
            assert!(is_word(word), "{word}");
        }
        for word in [
            "SMITH",
            "CHEST SMITH",
            "CANARY01",
            "MONOCHROME9",
            "chest",
            "FALL",
            "RAL L1",
        ] {
            assert!(!is_word(word), "{word}");
        }
    }

    #[test]
    fn codes_of_public_schemes_are_known_by_their_form() {
        for (scheme, value) in [
            ("DCM", "113100"),
            ("SCT", "39607008"), // lung
            ("SCT", "80891009"), // heart
            ("SCT", "51185008"), // thorax
            ("SRT", "T-D3000"),
            ("SRT", "R-102C2"),
            ("LN", "18782-3"),
            ("UCUM", "mm"),
            ("SCPECG", "5.6.3-9-61"),
        ] {
            assert!(is_public_code(&code(scheme, value)), "{scheme} {value}");
        }
        for (scheme, value) in [
            ("99HOSPITAL", "113100"),
            ("DCM", "SMITH"),
            ("SCT", "39607009"),
            ("SCT", "123456789012345678901"),
            ("SRT", "T-SMITH"),
            ("SCPECG", "5.SMITH-1"),
            ("SCPECG", "19300401"),
            ("LN", "SMITH-3"),
            ("UCUM", "{SMITH}"),
        ] {
            assert!(!is_public_code(&code(scheme, value)), "{scheme} {value}");
        }
        assert!(!is_public_code(&InMemDicomObject::new_empty()));
    }
}
