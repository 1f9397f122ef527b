//! Places smaller than a state, in scripts with capitals: addresses, postal codes, towns, and the
//! institutions where people are seen.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    Found, Kind,
    words::{Class, Region, Shape, Word, Words},
};

/// The most words before the head of an institution's name.
const LONGEST: usize = 7;

static ADDRESSES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let street = r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|Pl|Terrace|Ter|Circle|Cir|Highway|Hwy|Parkway|Pkwy|Square|Sq|Trail|Row|Close|Crescent|Alley|Plaza|Loop)";
    let part = r"(?:[\p{Lu}][\p{L}'.-]{0,20}|[0-9]{1,3}(?:st|nd|rd|th))";
    let flat = r"(?:,? ?(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|Room|Rm|Bldg|#)\.? ?#?[A-Za-z]?-?[0-9]{0,5}[A-Za-z]?(?-u:\b))";
    [
        format!(r"(?-u:\b)([0-9]{{1,6}}[A-Za-z]?(?:-[0-9]{{1,5}})? (?:[NSEW]\.? )?(?:{part} ){{1,4}}{street}(?-u:\b)\.?{flat}?)"),
        r"(?i)(?-u:\b)((?:P\.? ?O\.? ?Box|Apartado) [0-9]{1,8})".to_owned(),
        r"(?i)(?-u:\b)(?:zip|postal|postcode|post code|c\.?p\.?|código postal)(?: ?code)?[ :#]{0,3}([0-9]{5}(?:-[0-9]{4})?)(?-u:\b)".to_owned(),
        r"(?-u:\b)([0-9]{5}-[0-9]{4})(?-u:\b)".to_owned(),
        r"(?-u:\b)(?:A[LKZR]|C[AOT]|DE|DC|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[TA]|W[AVIY]),? ([0-9]{5})(?-u:\b)".to_owned(),
        // British and Canadian postal codes.
        r"(?-u:\b)([A-Z]{1,2}[0-9][A-Z0-9]? [0-9][A-Z]{2}|[A-Z][0-9][A-Z] [0-9][A-Z][0-9])(?-u:\b)".to_owned(),
        r"(?-u:\b)([0-9]{1,3}°[0-9 .'′″]{0,12}[NSEW]|-?[0-9]{1,2}\.[0-9]{4,8}, ?-?[0-9]{1,3}\.[0-9]{4,8})".to_owned(),
    ]
    // Constant patterns.
    .map(|pattern| Regex::new(&pattern).expect("a valid pattern"))
    .into()
});

/// Adds the places.
pub(super) fn find(words: &Words, found: &mut Vec<Found>) {
    for address in ADDRESSES.iter() {
        found.extend(address.captures_iter(words.text()).filter_map(|captures| {
            Some(Found {
                kind: Kind::Place,
                range: captures.get(1)?.range(),
            })
        }));
    }
    let mut at = 0;
    while at < words.len() {
        let place = institution(words, at)
            .or_else(|| saint(words, at))
            .or_else(|| city(words, at))
            .or_else(|| visited(words, at));
        let Some((start, end)) = place else {
            at += 1;
            continue;
        };
        let end = with_surroundings(words, end);
        if let (Some(first), Some(last)) = (words.word(start), words.word(end.saturating_sub(1))) {
            found.push(Found {
                kind: Kind::Place,
                range: first.start..last.end() + possessive(words, end),
            });
        }
        at = end.max(at + 1);
    }
}

/// "St. Mary's": the ending that words leave out.
fn possessive(words: &Words, end: usize) -> usize {
    let gap = words.gap(end.saturating_sub(1));
    if gap.starts_with("'s") || gap.starts_with("'S") {
        2
    } else {
        0
    }
}

/// "Mercy General Hospital": from its head back to the first capitalised word. "Newport clinic" needs
/// a word that the lists do not know, or a town.
fn institution(words: &Words, at: usize) -> Option<(usize, usize)> {
    let head = words.word(at).filter(|word| is_head(words, at, word))?;
    let mut start = at;
    while start > 0 && at - start < LONGEST && linked(words, start - 1) {
        match words.word(start - 1) {
            Some(word) if is_part(word) => start -= 1,
            Some(word)
                if is_connective(word)
                    && start >= 2
                    && linked(words, start - 2)
                    && words.word(start - 2).is_some_and(is_part) =>
            {
                start -= 2;
            }
            _ => break,
        }
    }
    if head.is_capitalised() {
        let after = names_whose(words, at);
        return (start < at || after > at + 1).then_some((start, after));
    }
    // A small head belongs to a name only if a true name stands before it.
    let proper = (start..at).any(|part| {
        words
            .region(part)
            .is_some_and(|(region, _)| region == Region::City)
            || words.word(part).is_some_and(|word| {
                word.shape == Shape::Capital && word.is_unknown() && !begins_sentence(words, part)
            })
    });
    (proper && start < at).then_some((start, at + 1))
}

fn is_head(words: &Words, at: usize, word: &Word) -> bool {
    if word.is(Class::FACILITY) {
        return true;
    }
    // "Harborview Medical", "Stanford Health Care": the head is missing, the rest is there.
    let next = words.word(at + 1).filter(|_| words.joined(at));
    let before = words.before(at).filter(|word| word.is_capitalised());
    let named = before.is_some_and(|word| !word.is(Class::STOP) && !word.is(Class::FACILITY_PART));
    let heads = [
        "Medical", "Med", "Health", "General", "Memorial", "Regional", "Care",
    ];
    let part = match word.text {
        "Care" => before.is_some_and(|word| word.text == "Health"),
        "General" => before.is_some(),
        _ => false,
    };
    !next.is_some_and(Word::is_capitalised) && heads.contains(&word.text) && (named || part)
}

/// "Hospital of Philadelphia", "Hospital Los Angeles".
fn names_whose(words: &Words, head: usize) -> usize {
    let next = |at: usize| {
        words
            .word(at)
            .filter(|word| word.shape == Shape::Capital && !word.is(Class::STOP))?;
        Some(words.region(at).map_or(at + 1, |(_, end)| end))
    };
    if !words.joined(head) {
        return head + 1;
    }
    // "Hospital Center"
    let facility = |at: usize| {
        words
            .word(at)
            .is_some_and(|word| word.is_capitalised() && word.is(Class::FACILITY))
    };
    let head = if facility(head + 1) { head + 1 } else { head };
    if !words.joined(head) {
        return head + 1;
    }
    let of = words
        .word(head + 1)
        .is_some_and(|word| ["of", "de", "at", "for"].contains(&word.text));
    if of && words.joined(head + 1) {
        let mut end = head + 1;
        while end < head + LONGEST && words.joined(end) {
            match next(end + 1) {
                Some(after) => end = after - 1,
                None => break,
            }
        }
        return end_of(head, end);
    }
    match words.region(head + 1) {
        Some((Region::City, end)) if words.word(head + 1).is_some_and(Word::is_capitalised) => end,
        _ => head + 1,
    }
}

/// The word after the last; only the head where nothing followed the "of".
fn end_of(head: usize, last: usize) -> usize {
    if last > head + 1 { last + 1 } else { head + 1 }
}

/// "St. Mary's", "Mount Sinai".
fn saint(words: &Words, at: usize) -> Option<(usize, usize)> {
    let first = words.word(at)?;
    let second = words.word(at + 1)?;
    let opens = ["St", "Saint", "Mt", "Mount", "Fort", "Ft"].contains(&first.text);
    let fits =
        second.shape == Shape::Capital && (!second.is(Class::STOP) || second.is(Class::FAMILY));
    // St. John's wort, St. Jude valve
    let thing = words
        .word(at + 2)
        .is_some_and(|word| word.is(Class::NOUN) || word.text == "wort")
        && matches!(words.gap(at + 1), " " | "'s ");
    (opens && fits && words.joined(at) && !thing).then_some((at, capitals(words, at + 1, 3)))
}

/// A town of the lists.
fn city(words: &Words, at: usize) -> Option<(usize, usize)> {
    let first = words.word(at).filter(|word| word.is_capitalised())?;
    let (region, end) = words.region(at)?;
    if region != Region::City {
        return None;
    }
    let last = end.saturating_sub(1);
    // "Glasgow Coma Scale", "Boston criteria"
    let thing = (end..end + 3)
        .take_while(|&next| words.joined(next - 1) || words.gap(next - 1) == "-")
        .find(|&next| {
            words
                .word(next)
                .is_some_and(|word| word.shape == Shape::Lower || word.is(Class::NOUN))
        })
        .is_some_and(|next| words.word(next).is_some_and(|word| word.is(Class::NOUN)));
    if thing {
        return None;
    }
    let state =
        words.gap(last) == ", " && (words.is_state_code(end) || words.region(end).is_some());
    let before = words.before(at).filter(|_| words.gap_before(at) == " ");
    let local = before.is_some_and(|word| {
        ["in", "at", "from", "near", "to", "of", "our", "the"].contains(&word.text)
    });
    let doubtful = [
        Class::AMBIGUOUS,
        Class::GIVEN,
        Class::FAMILY,
        Class::EPONYM,
        Class::STOP,
    ]
    .iter()
    .any(|&class| first.is(class))
        && end == at + 1;
    // "New York Presbyterian"
    let end = if local { capitals(words, last, 4) } else { end };
    (state || local || !doubtful).then_some((at, end))
}

/// "admitted to Redwood", "lives in Elmhurst": capitalised words where one is seen or lives.
fn visited(words: &Words, at: usize) -> Option<(usize, usize)> {
    let first = words.word(at)?;
    let (before, article) = match words.before(at)? {
        word if ["the", "our", "a"].contains(&word.text) => (words.before(at - 1)?, 1),
        word => (word, 0),
    };
    let preposition = at.checked_sub(1 + article)?;
    let gaps = words.gap_before(at) == " " && (article == 0 || words.gap_before(at - 1) == " ");
    if !gaps || !["at", "to", "in", "from", "near"].contains(&before.text) {
        return None;
    }
    let next = words
        .word(at + 1)
        .filter(|word| words.joined(at) && word.shape == Shape::Capital);
    let opens = next.is_some()
        && (first.text == "New" || first.is(Class::FACILITY_PART) || first.text == "MD");
    let listed = [Class::STOP, Class::NOUN, Class::EPONYM]
        .iter()
        .any(|&class| first.is(class));
    let proper = match first.shape {
        Shape::Capital => !listed || opens,
        Shape::Upper => {
            (!listed || opens) && (2..=6).contains(&first.text.len()) && before.text != "in"
        }
        _ => false,
    };
    let end = capitals(words, at, 4);
    let state = words
        .region(at)
        .is_some_and(|(region, after)| region == Region::State && after >= end);
    let thing =
        words.gap(end - 1) == " " && words.word(end).is_some_and(|word| word.is(Class::NOUN));
    if !proper || state || thing {
        return None;
    }
    let recent = |class, most: usize| {
        (preposition.saturating_sub(most)..preposition)
            .any(|at| words.word(at).is_some_and(|word| word.is(class)))
    };
    let unlisted = !first.is(Class::GIVEN) || first.is(Class::AMBIGUOUS);
    let told = match before.text {
        "at" => first.shape == Shape::Upper || unlisted || recent(Class::CARE, 5),
        "from" => recent(Class::RESIDENCE, 4) || first.is_unknown() || (end - at >= 2 && unlisted),
        "near" => recent(Class::RESIDENCE, 4),
        _ => recent(Class::RESIDENCE, 4) || recent(Class::CARE, 5),
    };
    told.then_some((at, end))
}

/// A state after a comma, a town after "in", and a small "clinic" or "office" still belong to it.
fn with_surroundings(words: &Words, mut end: usize) -> usize {
    for _ in 0..3 {
        let last = end.saturating_sub(1);
        let next = words.word(end);
        let possessive = matches!(words.gap(last), " " | "'s ");
        let small = |at: usize| {
            words.word(at).is_some_and(|word| {
                word.is(Class::FACILITY) && word.shape == Shape::Lower && word.text != "home"
            })
        };
        if possessive && small(end) {
            end += 1;
        } else if possessive
            && next.is_some_and(|word| word.is(Class::FACILITY_PART))
            && words.gap(end) == " "
            && small(end + 1)
        {
            end += 2;
        } else if words.gap(last) == ", "
            && (words.is_state_code(end) || next.is_some_and(Word::is_capitalised))
        {
            match words.region(end) {
                Some((_, after)) => end = after,
                None if words.is_state_code(end) => end += 1,
                None => break,
            }
        } else if next.is_some_and(|word| word.text == "in")
            && words.gap(last) == " "
            && words.gap(end) == " "
        {
            match words.region(end + 1) {
                Some((Region::City, after))
                    if words.word(end + 1).is_some_and(Word::is_capitalised) =>
                {
                    end = after
                }
                _ => break,
            }
        } else {
            break;
        }
    }
    end
}

/// The word after the last of the capitalised words from here.
fn capitals(words: &Words, start: usize, most: usize) -> usize {
    let mut end = start + 1;
    while end < start + most && linked(words, end - 1) {
        match words.word(end) {
            Some(word) if is_part(word) || (word.is(Class::FACILITY) && word.is_capitalised()) => {
                end += 1
            }
            Some(word)
                if is_connective(word)
                    && words.word(end + 1).is_some_and(is_part)
                    && linked(words, end) =>
            {
                end += 2
            }
            _ => break,
        }
    }
    end
}

fn is_part(word: &Word) -> bool {
    let stopped = word.is(Class::STOP) && !word.is(Class::FACILITY_PART) && !word.is(Class::FAMILY);
    word.is_capitalised() && !stopped || word.shape == Shape::Initial
}

fn is_connective(word: &Word) -> bool {
    ["of", "de", "la", "and", "the", "del"].contains(&word.text)
}

/// Whether a word and the next may belong to one place.
fn linked(words: &Words, at: usize) -> bool {
    words.joined(at) || matches!(words.gap(at), "'s " | " & " | "-" | "' ")
}

fn begins_sentence(words: &Words, at: usize) -> bool {
    let gap = words.gap_before(at);
    at == 0 || gap.contains(['.', '?', '!', '\n', ':', ';'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        find(&Words::of(text), &mut found);
        super::super::disjoint(found)
            .into_iter()
            .map(|found| &text[found.range])
            .collect()
    }

    #[test]
    fn addresses_towns_and_institutions_are_found() {
        for (text, place) in [
            (
                "lives at 123 Old Mill Road, Apt 4B with",
                "123 Old Mill Road, Apt 4B",
            ),
            ("PO Box 1234 now", "PO Box 1234"),
            ("ZIP: 33101", "33101"),
            ("seen in Milwaukee on Monday", "Milwaukee"),
            ("from Tulsa, OK today", "Tulsa, OK"),
            (
                "seen at Quillwood General Hospital today",
                "Quillwood General Hospital",
            ),
            (
                "the Children's Hospital of Quillwood said",
                "Children's Hospital of Quillwood",
            ),
            (
                "at Quillwood Hospital Center on",
                "Quillwood Hospital Center",
            ),
            ("at St. Brendan's Hospital on", "St. Brendan's Hospital"),
            ("treated at Quillwood since", "Quillwood"),
            ("admitted to QGH on", "QGH"),
            ("lives in Quillwood with", "Quillwood"),
            ("our Tulsa downtown clinic said", "Tulsa downtown clinic"),
            ("at the Quillwood office on", "Quillwood office"),
            ("works at Quillwood & Sons as", "Quillwood & Sons"),
        ] {
            assert_eq!(places(text), [place], "{text}");
        }
    }

    #[test]
    fn states_scores_and_nameless_institutions_stay() {
        for text in [
            "seen in California last summer",
            "a tertiary care center in Texas",
            "Glasgow Coma Scale of 15",
            "the Framingham Heart Study",
            "sent to the hospital from home",
            "admitted to ICU, then to OR",
            "St. John's wort",
            "Boston criteria were met",
            "at T2 and at L4",
            "in African American men",
            "diagnosed in Parkinson patients",
            "seen in the clinic; Clinic visit",
            "taken to Recovery",
            "the Intensive Care Unit",
            "Complex Regional Pain Syndrome",
        ] {
            assert_eq!(places(text), [""; 0], "{text}");
        }
    }
}
