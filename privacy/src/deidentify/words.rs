//! The words of a text in scripts with letters, each with its shape and what the lists know of it.

use std::{collections::HashMap, sync::LazyLock};

/// How a word is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One capital.
    Initial,
    /// A capital, and small letters after it.
    Capital,
    /// Two capitals or more.
    Upper,
    /// Small letters.
    Lower,
    /// Digits stand right beside it.
    Code,
}

/// What the lists say of a word: a set of the constants below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Class(u32);

impl Class {
    /// A frequent given name.
    pub(super) const GIVEN: Self = Self(1);
    /// A frequent family name.
    pub(super) const FAMILY: Self = Self(1 << 1);
    /// A name that is an ordinary word as well.
    pub(super) const AMBIGUOUS: Self = Self(1 << 2);
    /// A word that is no part of a name.
    pub(super) const STOP: Self = Self(1 << 3);
    /// Somebody that things are named after.
    pub(super) const EPONYM: Self = Self(1 << 4);
    /// A thing that is named after somebody.
    pub(super) const NOUN: Self = Self(1 << 5);
    /// Dr, Mrs and the like.
    pub(super) const TITLE: Self = Self(1 << 6);
    /// A word for a person: patient, man, daughter.
    pub(super) const PERSON: Self = Self(1 << 7);
    /// MD, RN and the like, after a name.
    pub(super) const CREDENTIAL: Self = Self(1 << 8);
    /// The head of an institution's name: Hospital, Clinic.
    pub(super) const FACILITY: Self = Self(1 << 9);
    /// What such a name may hold beside its head: Medical, Memorial.
    pub(super) const FACILITY_PART: Self = Self(1 << 10);
    /// Something done at a place: seen, admitted.
    pub(super) const CARE: Self = Self(1 << 11);
    /// Living or coming from somewhere.
    pub(super) const RESIDENCE: Self = Self(1 << 12);
    /// Begins the name of a city, state or country.
    pub(super) const REGION: Self = Self(1 << 13);

    pub(super) fn has(self, class: Self) -> bool {
        self.0 & class.0 == class.0
    }
}

const LISTS: [(Class, &str); 14] = [
    (Class::GIVEN, include_str!("lists/given_names.txt")),
    (Class::FAMILY, include_str!("lists/family_names.txt")),
    (Class::AMBIGUOUS, include_str!("lists/ambiguous_names.txt")),
    (Class::STOP, include_str!("lists/stop_words.txt")),
    (Class::EPONYM, include_str!("lists/eponyms.txt")),
    (Class::NOUN, include_str!("lists/eponym_nouns.txt")),
    (
        Class::TITLE,
        "dr dra mr mrs ms miss mister prof professor doctor sr sra don doña rev reverend capt lt sgt sir \
         nurse practitioner physician surgeon attending resident anesthesiologist",
    ),
    (
        Class::PERSON,
        "patient pt male female man woman boy girl child infant baby newborn toddler teen teenager lady \
         gentleman individual person m f son daughter wife husband spouse partner mother father sister \
         brother aunt uncle niece nephew cousin grandmother grandfather mom dad caregiver guardian friend \
         student veteran widow widower",
    ),
    (
        Class::CREDENTIAL,
        "md do rn np pa phd dds dmd dpm lpn cna crna facs facp pharmd lcsw psyd mbbs",
    ),
    (
        Class::FACILITY,
        "hospital hospitals hosp clinic clinics center centre ctr infirmary hospice institute institution \
         university college school pharmacy sanatorium facility office campus church prison jail shelter \
         home healthcare",
    ),
    (
        Class::FACILITY_PART,
        "medical med medicine health general memorial regional community university cancer heart urgent \
         care nursing rehab rehabilitation children children's women's women veterans surgical surgery \
         family practice oncology cardiology neurology dental eye orthopedic psychiatric behavioral \
         downtown teaching city county state national central north south east west northern southern \
         eastern western",
    ),
    (
        Class::CARE,
        "seen treated admitted evaluated assessed examined diagnosed operated hospitalized hospitalised \
         referred transferred discharged presented presenting followed reviewed visited visit visits \
         appointment consult consultation consulted attended attending checked scheduled managed monitored \
         underwent surgery admission visiting case presents tested follow-up care record records based \
         working works practicing practices received vaccinated delivered transported rushed taken went \
         done performed being",
    ),
    (
        Class::RESIDENCE,
        "lives living lived live resides residing reside resident residence moved relocated born native \
         travel traveled travelled traveling travelling returned stationed deported immigrated emigrated \
         commutes originally hometown",
    ),
    (Class::REGION, ""),
];

const CITIES: &str = include_str!("lists/cities.txt");
const STATES: &str = include_str!("lists/states.txt");

/// A stretch of the map that the lists name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    /// Smaller than a state.
    City,
    /// A state, or something larger.
    State,
}

struct Lists {
    classes: HashMap<&'static str, Class>,
    /// By first word, the other words; longest first.
    regions: HashMap<&'static str, Vec<(Vec<&'static str>, Region)>>,
    postal_codes: Vec<&'static str>,
}

static LOOKUP: LazyLock<Lists> = LazyLock::new(|| {
    let mut classes: HashMap<&str, Class> = HashMap::new();
    for (class, list) in LISTS {
        for word in lines(list).flat_map(str::split_whitespace) {
            classes.entry(word).or_default().0 |= class.0;
        }
    }
    let mut regions: HashMap<&str, Vec<(Vec<&str>, Region)>> = HashMap::new();
    let mut postal_codes = Vec::new();
    for (list, region) in [(CITIES, Region::City), (STATES, Region::State)] {
        for line in lines(list) {
            let mut words: Vec<&str> = line
                .split([' ', '.'])
                .filter(|word| !word.is_empty())
                .collect();
            if region == Region::State
                && words.len() > 1
                && words.last().is_some_and(|word| word.len() == 2)
            {
                postal_codes.extend(words.pop());
            }
            if let Some((first, rest)) = words.split_first() {
                classes.entry(first).or_default().0 |= Class::REGION.0;
                regions
                    .entry(first)
                    .or_default()
                    .push((rest.to_vec(), region));
            }
        }
    }
    for names in regions.values_mut() {
        names.sort_by_key(|(rest, _)| std::cmp::Reverse(rest.len()));
    }
    Lists {
        classes,
        regions,
        postal_codes,
    }
});

fn lines(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines().filter(|line| !line.starts_with('#'))
}

/// One word, without a possessive ending.
pub(super) struct Word<'t> {
    pub(super) text: &'t str,
    /// Its first byte.
    pub(super) start: usize,
    pub(super) shape: Shape,
    class: Class,
}

impl Word<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub(super) fn is(&self, class: Class) -> bool {
        self.class.has(class)
    }

    /// Whether it begins with a capital and is no initial and no code.
    pub(super) fn is_capitalised(&self) -> bool {
        matches!(self.shape, Shape::Capital | Shape::Upper)
    }

    /// Whether the lists know nothing of it, but perhaps as a part of the name of a region.
    pub(super) fn is_unknown(&self) -> bool {
        self.class.0 & !Class::REGION.0 == 0
    }
}

/// All words of a text.
pub(super) struct Words<'t> {
    text: &'t str,
    words: Vec<Word<'t>>,
}

impl<'t> Words<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let mut words = Vec::new();
        let mut chars = text.char_indices().peekable();
        let mut before = None;
        while let Some((start, c)) = chars.next() {
            if !is_letter(c) {
                before = Some(c);
                continue;
            }
            let mut end = start + c.len_utf8();
            while let Some(&(at, c)) = chars.peek() {
                let inside = matches!(c, '\'' | '-')
                    && text
                        .get(at + 1..)
                        .and_then(|rest| rest.chars().next())
                        .is_some_and(is_letter);
                if !is_letter(c) && !inside {
                    break;
                }
                end = at + c.len_utf8();
                chars.next();
            }
            let whole = &text[start..end]; // both ends are those of characters
            let word = whole
                .strip_suffix("'s")
                .or_else(|| whole.strip_suffix("'S"))
                .unwrap_or(whole);
            let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
            let code = digit(before) || digit(chars.peek().map(|&(_, c)| c));
            words.push(Word {
                text: word,
                start,
                shape: if code { Shape::Code } else { shape(word) },
                class: class(word),
            });
            before = word.chars().next_back();
        }
        Self { text, words }
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    pub(super) fn word(&self, at: usize) -> Option<&Word<'t>> {
        self.words.get(at)
    }

    /// What stands between a word and the next; after the last, the rest of the text.
    pub(super) fn gap(&self, at: usize) -> &'t str {
        let start = self.words.get(at).map_or(0, Word::end);
        let end = self
            .words
            .get(at + 1)
            .map_or(self.text.len(), |next| next.start);
        self.text.get(start..end).unwrap_or_default()
    }

    /// What stands before a word.
    pub(super) fn gap_before(&self, at: usize) -> &'t str {
        match at.checked_sub(1) {
            Some(before) => self.gap(before),
            None => self
                .words
                .first()
                .and_then(|first| self.text.get(..first.start))
                .unwrap_or_default(),
        }
    }

    pub(super) fn before(&self, at: usize) -> Option<&Word<'t>> {
        self.words.get(at.checked_sub(1)?)
    }

    /// Whether a word and the next stand in one phrase: a blank between them, or a full stop and a
    /// blank after an initial or an abbreviation.
    pub(super) fn joined(&self, at: usize) -> bool {
        let abbreviated = self.words.get(at).is_some_and(|word| {
            word.shape == Shape::Initial
                || ["St", "Mt", "Ft", "Med", "Hosp", "Ste", "Jr"].contains(&word.text)
        });
        match self.gap(at) {
            " " | "\n" => true,
            ". " | "." => abbreviated,
            _ => false,
        }
    }

    /// The city, state or country whose name begins here, and the word after it.
    pub(super) fn region(&self, at: usize) -> Option<(Region, usize)> {
        let first = self.word(at).filter(|word| word.is(Class::REGION))?;
        let names = LOOKUP.regions.get(first.text.to_lowercase().as_str())?;
        names.iter().find_map(|(rest, region)| {
            let same = rest.iter().enumerate().all(|(i, name)| {
                let next = self.word(at + 1 + i);
                (self.joined(at + i) || self.gap(at + i) == ".")
                    && next.is_some_and(|word| word.text.eq_ignore_ascii_case(name))
            });
            same.then_some((*region, at + 1 + rest.len()))
        })
    }

    /// Whether a word is the postal code of a state.
    pub(super) fn is_state_code(&self, at: usize) -> bool {
        self.word(at).is_some_and(|word| {
            word.shape == Shape::Upper
                && LOOKUP
                    .postal_codes
                    .iter()
                    .any(|code| code.eq_ignore_ascii_case(word.text))
        })
    }
}

fn is_letter(c: char) -> bool {
    (c.is_alphabetic() || matches!(c, '\u{300}'..='\u{36f}')) && !super::chinese::is_han(c)
}

fn shape(word: &str) -> Shape {
    let mut chars = word.chars();
    let first = chars.next().is_some_and(char::is_uppercase);
    let rest = chars.as_str();
    match first {
        false => Shape::Lower,
        true if rest.is_empty() => Shape::Initial,
        true if rest.chars().any(char::is_lowercase) => Shape::Capital,
        true => Shape::Upper,
    }
}

/// What the lists say; of the first part of a hyphenated word where they do not know the whole.
fn class(word: &str) -> Class {
    const LONGEST: usize = 40;
    if word.len() > LONGEST {
        return Class::default();
    }
    let lower = word.to_lowercase();
    let part = lower.split('-').next().unwrap_or_default();
    let known = |word: &str| LOOKUP.classes.get(word).copied();
    known(&lower).or_else(|| known(part)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_blanks_and_marks_and_keep_inner_hyphens() {
        let words = Words::of("Anne-Marie O'Brien's T2 scan, MRI. Núñez看J.");
        let seen: Vec<(&str, Shape)> = words
            .words
            .iter()
            .map(|word| (word.text, word.shape))
            .collect();
        assert_eq!(
            seen,
            [
                ("Anne-Marie", Shape::Capital),
                ("O'Brien", Shape::Capital),
                ("T", Shape::Code),
                ("scan", Shape::Lower),
                ("MRI", Shape::Upper),
                ("Núñez", Shape::Capital),
                ("J", Shape::Initial),
            ]
        );
        assert_eq!(
            (words.gap(1), words.gap(4), words.gap(6)),
            ("'s ", ". ", ".")
        );
    }

    #[test]
    fn the_lists_know_names_regions_and_things_named_after_people() {
        let words = Words::of("Mary lives in New York City, New Mexico, has Crohn disease");
        assert!(words.words[0].is(Class::GIVEN) && words.words[1].is(Class::RESIDENCE));
        assert_eq!(words.region(3), Some((Region::City, 6)));
        assert_eq!(words.region(6), Some((Region::State, 8)));
        assert!(words.words[9].is(Class::EPONYM) && words.words[10].is(Class::NOUN));
    }
}
