//! Names of people in scripts with capitals: after titles, labels and words for people, from the lists
//! of names, and again wherever a name found in one place of the note stands in another.

use std::{collections::HashSet, sync::LazyLock};

use regex::Regex;

use super::{
    Found, Kind,
    words::{Class, Shape, Word, Words},
};

/// The most words of one name.
const LONGEST: usize = 5;

static LABELS: LazyLock<Regex> = LazyLock::new(|| {
    // A constant pattern.
    Regex::new(
        r"(?i)(?:(?-u:\b)(?:(?:patient|pt|first|last|middle|full|maiden|given|family)(?:'s)? names?|name of patient|surname|name|nombre|apellidos|(?:dictated|signed|transcribed|prepared|authored|entered) by|next of kin|emergency contact) ?[:=]|(?-u:\b)(?:named|name is|called|my name is|goes by|signed by|dictated by)(?-u:\b))[ \t]{0,4}",
    )
    .expect("a valid pattern")
});

/// Adds the names.
pub(super) fn find(words: &Words, found: &mut Vec<Found>) {
    let labelled: HashSet<usize> = LABELS
        .find_iter(words.text())
        .map(|label| label.end())
        .collect();
    let mut names: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        match name_at(words, at, &labelled) {
            Some((start, end)) => {
                names.push((start, end));
                at = end.max(at + 1);
            }
            None => at += 1,
        }
    }
    let known: HashSet<&str> = names
        .iter()
        .flat_map(|&(start, end)| start..end)
        .filter_map(|at| words.word(at))
        .filter(|word| is_telling(word))
        .map(|word| word.text)
        .collect();
    let again = (0..words.len()).filter(|&at| {
        words
            .word(at)
            .is_some_and(|word| word.is_capitalised() && known.contains(word.text))
            && !is_namesake(words, at, at + 1)
    });
    names.extend(again.map(|at| (at, at + 1)));
    for (start, end) in names {
        let (Some(first), Some(last)) = (words.word(start), words.word(end.saturating_sub(1)))
        else {
            continue;
        };
        let stop = last.shape == Shape::Initial && words.gap(end - 1).starts_with('.');
        found.push(Found {
            kind: Kind::Name,
            range: first.start..last.end() + usize::from(stop),
        });
    }
}

/// A name without its title, and the title with the blank after it.
pub(super) fn split_title(name: &str) -> (&str, &str) {
    let words = Words::of(name);
    match (words.word(0), words.word(1)) {
        (Some(title), Some(rest)) if title.start == 0 && title.is(Class::TITLE) => {
            name.split_at(rest.start) // a word begins with a character
        }
        _ => ("", name),
    }
}

/// The words of the name that begins, with its title, at a word.
fn name_at(words: &Words, at: usize, labelled: &HashSet<usize>) -> Option<(usize, usize)> {
    let word = words.word(at)?;
    if labelled.contains(&word.start) {
        return labelled_name(words, at);
    }
    if word.is(Class::TITLE)
        && matches!(words.gap(at), " " | ". " | "." | ".  ")
        && let Some(end) = titled_name(words, at)
    {
        return Some((at, end));
    }
    if let Some(end) = described_name(words, at) {
        return Some((at, end));
    }
    listed_name(words, at).map(|end| (at, end))
}

/// After a label, case does not count, and the name ends with the line.
fn labelled_name(words: &Words, at: usize) -> Option<(usize, usize)> {
    let first = words.word(at)?;
    let start = if first.is(Class::TITLE) { at + 1 } else { at };
    let mut end = start;
    while end < start + LONGEST {
        let fits = words.word(end).is_some_and(|word| {
            let stopped =
                word.is(Class::STOP) && !word.is(Class::FAMILY) && word.shape != Shape::Initial;
            !stopped && word.shape != Shape::Code
        });
        if !fits {
            break;
        }
        end += 1;
        if !matches!(words.gap(end - 1), " " | ", " | "," | ". ") {
            break;
        }
        let small = words
            .word(end)
            .is_some_and(|word| word.shape == Shape::Lower);
        let capital = words
            .word(end - 1)
            .is_some_and(|word| word.shape != Shape::Lower);
        if small && capital && !words.word(end).is_some_and(is_particle) {
            break;
        }
    }
    // "called for an appointment" names nobody.
    let lower = words
        .word(start)
        .is_some_and(|word| word.shape == Shape::Lower);
    let colon = words.gap_before(at).contains([':', '=']);
    let plausible = colon || !lower;
    (end > start && plausible).then_some((at, end))
}

/// After a title: at least one capitalised word.
fn titled_name(words: &Words, title: usize) -> Option<usize> {
    let word = words.word(title)?;
    let spelt_out =
        ["doctor", "professor", "don", "miss", "sir"].contains(&word.text.to_lowercase().as_str());
    let blank = !words.gap(title).contains('.');
    let first = words.word(title + 1)?;
    if word.text == "MS" || word.text == "DO" || (spelt_out && first.shape != Shape::Capital) {
        return None;
    }
    match first.shape {
        Shape::Capital | Shape::Initial => {}
        Shape::Upper if word.shape == Shape::Upper || !blank => {}
        Shape::Lower
            if (first.is(Class::FAMILY) || first.is(Class::GIVEN))
                && !first.is(Class::AMBIGUOUS) => {}
        _ => return None,
    }
    if first.is(Class::TITLE) {
        return None; // "attending Dr. Okonjo": the next title has the name
    }
    let taken = first.is(Class::STOP) && !first.is(Class::FAMILY) && first.shape != Shape::Initial;
    (!taken).then(|| run(words, title + 1))
}

/// "a 60-year-old man, Xochitl Reyes", "by Xochitl Reyes", "Xochitl Reyes, MD".
fn described_name(words: &Words, at: usize) -> Option<usize> {
    let first = words.word(at)?;
    let both = first.is(Class::GIVEN)
        && words
            .word(at + 1)
            .is_some_and(|next| next.is(Class::FAMILY));
    let begins =
        first.shape == Shape::Capital && (both || is_free(first)) && !first.is(Class::EPONYM);
    if !begins || is_clinical_head(first) {
        return None;
    }
    let end = run(words, at);
    if is_namesake(words, at, end) {
        return None;
    }
    let initial = |at: usize| {
        words
            .word(at)
            .is_some_and(|word| word.shape == Shape::Initial)
    };
    let listed = first.is(Class::GIVEN) || first.is(Class::FAMILY);
    let long = end - at >= 2;
    // "Anika P." with the full stop: nobody writes other words so, but for the heads above.
    if end - at == 2 && initial(at + 1) && words.gap(at + 1).starts_with(['.', ',']) {
        return Some(end);
    }
    let credential = words.word(end).is_some_and(|word| {
        word.is(Class::CREDENTIAL) && word.shape == Shape::Upper && words.gap(end - 1) == ", "
    });
    if credential && (long || listed) {
        return Some(end);
    }
    let before = words.before(at)?;
    let person = before.is(Class::PERSON) && matches!(words.gap_before(at), " " | ", " | ": ");
    if person && (long || listed) {
        return Some(end);
    }
    let agent = ["by", "with"].contains(&before.text) && words.gap_before(at) == " ";
    (agent && long && !is_place(words, at, end)).then_some(end)
}

/// What the lists of names tell.
fn listed_name(words: &Words, at: usize) -> Option<usize> {
    let first = words.word(at)?;
    let second = words.word(at + 1);
    let clear = |word: &Word, class| {
        word.is(class) && !word.is(Class::AMBIGUOUS) && !word.is(Class::EPONYM)
    };
    let next_is = |class| second.is_some_and(|word| word.is(class) && !word.is(Class::AMBIGUOUS));
    match first.shape {
        Shape::Capital if first.is(Class::GIVEN) => {
            let end = run(words, at);
            let more = end - at >= 2;
            let both = more && next_is(Class::FAMILY);
            if both {
                return Some(end);
            }
            let initial = second.is_some_and(|word| word.shape == Shape::Initial);
            let marked = more && initial && words.gap(at + 1).starts_with(['.', ',', ')', '?']);
            let free = is_free(first) || (marked && first.is(Class::AMBIGUOUS));
            if !free || is_namesake(words, at, end) || is_namesake(words, at, at + 1) {
                return None;
            }
            let certain = clear(first, Class::GIVEN);
            (certain || marked || (more && second.is_some_and(|word| word.is(Class::FAMILY))))
                .then_some(end)
        }
        // "Smith, John"
        Shape::Capital | Shape::Upper
            if clear(first, Class::FAMILY)
                && words.gap(at) == ", "
                && second
                    .is_some_and(|word| word.shape == first.shape && clear(word, Class::GIVEN)) =>
        {
            Some(at + 2)
        }
        // "Lakeisha Jones"
        Shape::Capital if first.is_unknown() && words.joined(at) && next_is(Class::FAMILY) => {
            let capital = second.is_some_and(|word| word.shape == Shape::Capital);
            let end = run(words, at);
            (capital && !is_namesake(words, at, end) && !is_place(words, at, end)).then_some(end)
        }
        Shape::Initial if words.gap(at).starts_with('.') && words.joined(at) => {
            let end = run(words, at);
            let surname = (at + 1..end)
                .filter_map(|at| words.word(at))
                .any(|word| word.shape == Shape::Capital && clear(word, Class::FAMILY));
            surname.then_some(end)
        }
        Shape::Upper | Shape::Lower
            if clear(first, Class::GIVEN)
                && is_free(first)
                && words.gap(at) == " "
                && second.is_some_and(|word| {
                    word.shape == first.shape && clear(word, Class::FAMILY)
                }) =>
        {
            Some(at + 2)
        }
        _ => None,
    }
}

/// The word after the last of the capitalised words from here.
fn run(words: &Words, start: usize) -> usize {
    let mut end = start + 1;
    while end < start + LONGEST && words.joined(end - 1) {
        let Some(word) = words.word(end) else { break };
        let upper = words
            .word(start)
            .is_some_and(|first| first.shape == Shape::Upper);
        let shaped = match word.shape {
            Shape::Capital | Shape::Initial => true,
            Shape::Upper => upper,
            _ => false,
        };
        let named = is_free(word) || (word.is(Class::FAMILY) && !word.is(Class::NOUN));
        let plain = shaped && named && !word.is(Class::FACILITY) && !word.is(Class::TITLE);
        let particle = is_particle(word) && words.joined(end) && follows_particle(words, end);
        if !(plain || particle) {
            break;
        }
        end += 1;
    }
    end
}

fn follows_particle(words: &Words, at: usize) -> bool {
    words
        .word(at + 1)
        .is_some_and(|word| is_particle(word) || (word.shape == Shape::Capital && is_free(word)))
}

fn is_particle(word: &Word) -> bool {
    [
        "de", "del", "la", "las", "los", "van", "von", "der", "den", "bin", "al", "di", "da",
        "dos", "el", "y",
    ]
    .contains(&word.text)
}

fn is_free(word: &Word) -> bool {
    word.shape == Shape::Initial || !(word.is(Class::STOP) || word.is(Class::NOUN))
}

/// "Vitamin D.", "Factor V." and their like, which are no people with an initial.
fn is_clinical_head(word: &Word) -> bool {
    let lower = word.text.to_lowercase();
    [
        "vitamin",
        "type",
        "class",
        "stage",
        "protein",
        "factor",
        "hepatitis",
        "influenza",
        "group",
        "grade",
        "plan",
        "part",
        "phase",
        "category",
        "strep",
        "staph",
        "immunoglobulin",
        "apolipoprotein",
        "figure",
        "table",
        "appendix",
        "section",
        "zone",
        "level",
        "model",
        "cytochrome",
        "complement",
        "botulinum",
    ]
    .contains(&lower.as_str())
}

/// Whether the words name a thing: "Charles Bonnet syndrome", "Foley catheter", "Crohn's".
fn is_namesake(words: &Words, start: usize, end: usize) -> bool {
    let last = end.saturating_sub(1);
    let gap = words.gap(last);
    let beside = matches!(gap, " " | "'s " | "' " | "-" | "\n");
    let noun = words.word(end).is_some_and(|word| word.is(Class::NOUN));
    let eponym = |at: usize| words.word(at).is_some_and(|word| word.is(Class::EPONYM));
    let titled = words
        .before(start)
        .is_some_and(|word| word.is(Class::TITLE));
    (beside && noun) || (end == start + 1 && eponym(start) && !titled)
}

fn is_place(words: &Words, start: usize, end: usize) -> bool {
    let next = words
        .word(end)
        .is_some_and(|word| word.is(Class::FACILITY) || word.is(Class::FACILITY_PART));
    let first = words.region(start).is_some();
    first || (next && matches!(words.gap(end.saturating_sub(1)), " " | "'s "))
}

/// Whether a word of a name, standing alone elsewhere, still means the person.
fn is_telling(word: &Word) -> bool {
    let ambiguous = word.is(Class::AMBIGUOUS) && !word.is(Class::FAMILY);
    word.is_capitalised()
        && word.text.chars().count() >= 3
        && !ambiguous
        && ![
            Class::STOP,
            Class::EPONYM,
            Class::TITLE,
            Class::NOUN,
            Class::REGION,
        ]
        .iter()
        .any(|&class| word.is(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        find(&Words::of(text), &mut found);
        super::super::disjoint(found)
            .into_iter()
            .map(|found| &text[found.range])
            .collect()
    }

    #[test]
    fn names_are_found_by_title_label_description_and_list() {
        for (text, name) in [
            ("seen by Dr. Okonjo today", "Dr. Okonjo"),
            ("attending Dr. Okonjo", "Dr. Okonjo"),
            ("the Nurse Practitioner Okonjo said", "Practitioner Okonjo"),
            ("MRS. HARGREAVES was seen", "MRS. HARGREAVES"),
            ("Prof. Ana de la Vega wrote", "Prof. Ana de la Vega"),
            ("Patient name: xochitl reyes\nage 40", "xochitl reyes"),
            ("Name: REYES, XOCHITL DOB 1990", "REYES, XOCHITL"),
            ("a boy named Quill was seen", "Quill"),
            ("a 60-year-old man, Xochitl Quispe, with", "Xochitl Quispe"),
            ("reviewed by Xochitl Quispe.", "Xochitl Quispe"),
            ("Xochitl Quispe, MD", "Xochitl Quispe"),
            ("for Anika P., who", "Anika P."),
            ("for Mary Johnson, seen", "Mary Johnson"),
            ("and J. D. Hernandez agreed", "J. D. Hernandez"),
            ("pt john smith c/o pain", "john smith"),
            ("Patient May Lee was seen", "May Lee"),
            ("ask Will T., please", "Will T."),
            ("Smith, John: 40 years", "Smith, John"),
            ("Lakeisha Jones was seen", "Lakeisha Jones"),
        ] {
            assert_eq!(names(text), [name], "{text}");
        }
    }

    #[test]
    fn a_name_is_found_again_where_it_stands_alone() {
        assert_eq!(
            names("Dr. Okonjo saw Mary Hargreaves. Hargreaves denied pain; Okonjo agreed."),
            ["Dr. Okonjo", "Mary Hargreaves", "Hargreaves", "Okonjo"]
        );
    }

    #[test]
    fn eponyms_and_words_that_are_also_names_stay() {
        for text in [
            "Parkinson's disease and Crohn's disease, Foley catheter",
            "Will improve in May. Hope is good.",
            "Stevens-Johnson syndrome, Charles Bonnet syndrome",
            "Wilson disease, Bell's palsy, Graves' disease",
            "Vitamin D. Hepatitis C. Factor V.",
            "history of Parkinson, Hodgkin and Alzheimer",
            "Lisinopril and Metoprolol, then Warfarin",
            "Current Guidelines for Adults",
            "MS is likely",
            "Jackson-Pratt drain, Allis clamp, Kelly forceps",
            "a 60-year-old man, Lisinopril 10 mg",
            "Mark the site. Grant access. Drew blood.",
            "The patient called for an appointment",
        ] {
            assert_eq!(names(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_title_is_split_from_its_name() {
        assert_eq!(split_title("Dr. Ana Vega"), ("Dr. ", "Ana Vega"));
        assert_eq!(split_title("Ana Vega"), ("", "Ana Vega"));
        assert_eq!(split_title("Dr"), ("", "Dr"));
    }
}
