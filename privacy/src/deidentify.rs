//! De-identification of free text: what in a note points to a person, and the note without it.
//!
//! Rules and word lists only, so that an auditor can read why something was taken out and a site
//! can add its own names. Kinds follow the HIPAA Safe Harbor list, 45 CFR 164.514(b)(2)(i), and its
//! Chinese counterparts. Rules miss things: nothing here makes a text anonymous, it makes a leak
//! rare. What stays on purpose: years alone, ages up to 89, states, provinces and countries.
//!
//! ```
//! use consilium_privacy::{
//!     deidentify::{Deidentifier, Dictionaries, Kind},
//!     pseudonym::PseudonymKey,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let deidentifier = Deidentifier::new(&Dictionaries::default())?;
//! let note = "Mr. John Miller, seen on March 4, 2021 with Parkinson's disease.";
//! let kinds: Vec<Kind> = deidentifier.find(note).iter().map(|found| found.kind).collect();
//! assert_eq!(kinds, [Kind::Name, Kind::Date]);
//!
//! let clean = deidentifier.replace(note, &PseudonymKey::random()?, "MRN-0042");
//! assert!(clean.text().starts_with("Mr. [NAME-") && clean.text().ends_with("Parkinson's disease."));
//! assert!(!clean.text().contains("March 4, 2021")); // the same weekday, up to a year away
//! # Ok(())
//! # }
//! ```
//!
//! Time is linear in the text: patterns without backtracking, repetitions with a bound, and a few
//! words of context on either side.

use std::{fmt, ops::Range};

use crate::pseudonym::PseudonymKey;

mod calendar;
mod chinese;
mod dates;
mod dictionary;
mod folding;
mod identifiers;
mod names;
mod places;
mod replacement;
mod shifting;
mod words;

pub use dictionary::{Dictionaries, DictionaryError};
pub use replacement::{Deidentified, Replacement};

use dictionary::Terms;
use folding::Folded;
use words::Words;

/// What an identifier is. The order is that of precedence where two rules claim one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// E-mail address.
    Email,
    /// Web address.
    Url,
    /// IP address, version 4 or 6.
    IpAddress,
    /// Chinese resident identity number (GB 11643).
    NationalId,
    /// United States social security number.
    SocialSecurity,
    /// Medical record, admission or visit number.
    MedicalRecord,
    /// Number of a health plan or its member.
    HealthPlan,
    /// Bank, billing or credit card number.
    Account,
    /// Number of a certificate or licence, professional ones among them.
    Licence,
    /// Vehicle identification number or licence plate.
    Vehicle,
    /// Serial number of a device or implant.
    Device,
    /// Reference of a fingerprint, voice or retina record.
    Biometric,
    /// Fax number.
    Fax,
    /// Telephone number.
    Phone,
    /// A date with more than its year.
    Date,
    /// An age above 89 years.
    Age,
    /// Any other number or code that points to one person.
    Number,
    /// Anything smaller than a state: address, town, postal code, hospital or other institution.
    Place,
    /// Name of a patient, relative or member of staff.
    Name,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 19] = [
        Self::Email,
        Self::Url,
        Self::IpAddress,
        Self::NationalId,
        Self::SocialSecurity,
        Self::MedicalRecord,
        Self::HealthPlan,
        Self::Account,
        Self::Licence,
        Self::Vehicle,
        Self::Device,
        Self::Biometric,
        Self::Fax,
        Self::Phone,
        Self::Date,
        Self::Age,
        Self::Number,
        Self::Place,
        Self::Name,
    ];

    /// The word that stand-ins of this kind carry, such as `NAME`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Email => "EMAIL",
            Self::Url => "URL",
            Self::IpAddress => "IP",
            Self::NationalId => "NATIONAL-ID",
            Self::SocialSecurity => "SSN",
            Self::MedicalRecord => "MRN",
            Self::HealthPlan => "PLAN",
            Self::Account => "ACCOUNT",
            Self::Licence => "LICENCE",
            Self::Vehicle => "VEHICLE",
            Self::Device => "DEVICE",
            Self::Biometric => "BIOMETRIC",
            Self::Fax => "FAX",
            Self::Phone => "PHONE",
            Self::Date => "DATE",
            Self::Age => "AGE",
            Self::Number => "NUMBER",
            Self::Place => "PLACE",
            Self::Name => "NAME",
        }
    }
}

/// One identifier in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Where it is, in bytes; both ends lie between characters.
    pub range: Range<usize>,
}

/// Finds identifiers, and writes texts without them.
#[derive(Clone)]
pub struct Deidentifier {
    terms: Terms,
}

impl Deidentifier {
    /// Takes the site's own lists; without any, the built-in ones work alone.
    ///
    /// # Errors
    /// A term is too short to be looked for, or there are too many.
    pub fn new(dictionaries: &Dictionaries) -> Result<Self, DictionaryError> {
        Ok(Self {
            terms: Terms::new(dictionaries)?,
        })
    }

    /// The identifiers of a text, in order; no two overlap.
    pub fn find(&self, text: &str) -> Vec<Found> {
        let folded = Folded::new(text);
        let mut found = identifiers::find(folded.text());
        dates::find(folded.text(), &mut found);
        chinese::find(folded.text(), &mut found);
        self.terms.find(folded.text(), &mut found);
        let words = Words::of(folded.text());
        places::find(&words, &mut found);
        names::find(&words, &mut found);
        let mut found = disjoint(found);
        for Found { range, .. } in &mut found {
            *range = folded.original(range);
        }
        found
    }

    /// The text with every identifier replaced.
    ///
    /// Under one key, one identifier of one kind always gets the same stand-in, such as
    /// `[NAME-1f0c77ab]`; how it is spaced and capitalised does not count, and titles stay. Dates move
    /// by a number of whole weeks, at most 52 to either side, that the key and `patient` (any stable
    /// identifier of the patient, as long as it is always the same one) determine. Ages over 89 become
    /// `90+`.
    pub fn replace(&self, text: &str, key: &PseudonymKey, patient: &str) -> Deidentified {
        replacement::replace(text, &self.find(text), key, patient)
    }
}

impl fmt::Debug for Deidentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deidentifier([redacted])")
    }
}

/// Joins what overlaps: nothing that a rule found is left out, the first kind in order names it.
fn disjoint(mut found: Vec<Found>) -> Vec<Found> {
    found.retain(|found| !found.range.is_empty());
    found.sort_by_key(|found| (found.range.start, found.range.end));
    let mut joined: Vec<Found> = Vec::with_capacity(found.len());
    for next in found {
        match joined.last_mut() {
            Some(last) if next.range.start < last.range.end => {
                last.range.end = last.range.end.max(next.range.end);
                last.kind = last.kind.min(next.kind);
            }
            _ => joined.push(next),
        }
    }
    joined
}

#[cfg(test)]
mod tests;
