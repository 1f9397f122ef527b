//! From a text to the ids of its pieces, each with the bytes it stands for.
//!
//! WordPiece (Schuster and Nakajima 2012) as BERT uses it: words are cut at white space, punctuation
//! and around every Chinese character, then into the longest pieces that the vocabulary has. Text is
//! read by its NFKC form in lower case without accents; offsets are those of the text as it is written.
//!
//! The shipped vocabulary was learnt from public terminologies alone, because one learnt from notes
//! would publish the names in them; `vocabulary/README.md` says from which, and how to learn it again.
//! The names of special pieces are no part of what may be written: a note that says `[SEP]` is read as
//! a bracket, a word and a bracket.

use std::{
    collections::HashSet,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use ring::digest;
use serde::Deserialize;
use tokenizers::{
    Model as _, NormalizedString, Normalizer as _, OffsetType, PreTokenizedString,
    PreTokenizer as _, SplitDelimiterBehavior,
    models::wordpiece::WordPiece,
    normalizers::{BertNormalizer, NFKC},
    pre_tokenizers::bert::BertPreTokenizer,
};

use super::Span;

/// One piece for each line, in the order of their ids.
const SHIPPED: &str = include_str!("vocabulary/vocab.txt");

/// Most bytes that a vocabulary file may have.
pub const VOCABULARY_LIMIT: u64 = 64 << 20;

/// Bytes that are turned into pieces at a time: each takes about a hundred bytes of memory on the way.
const PORTION: usize = 16 << 10;

/// The pieces that a text network knows, by number. Cheap to clone.
#[derive(Clone)]
pub struct Vocabulary {
    inner: Arc<Inner>,
}

struct Inner {
    model: WordPiece,
    bert: BertNormalizer,
    /// Characters that may go on a word. Where they are known, each other one is set apart, so that it
    /// does not make its whole word unknown; public vocabularies do without, as their networks learnt.
    alphabet: Option<HashSet<char>>,
    specials: Specials,
    digest: String,
}

/// The ids of pieces that no text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Specials {
    /// Fills a window behind the text: `[PAD]`.
    pub padding: u32,
    /// Stands for what the vocabulary cannot spell: `[UNK]`.
    pub unknown: u32,
    /// Opens a window; its vector is that of the whole: `[CLS]`.
    pub class: u32,
    /// Closes a window: `[SEP]`.
    pub separator: u32,
    /// Hides a piece that is to be guessed: `[MASK]`.
    pub mask: u32,
    /// Stand before and behind the first and the second entity of a pair: `[E1]`, `[/E1]`, `[E2]`,
    /// `[/E2]`. In a public vocabulary that lacks them, its pieces `[unused1]` to `[unused4]`; none
    /// where it lacks those as well.
    pub entities: Option<[u32; 4]>,
}

/// A piece of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Its number in the vocabulary.
    pub id: u32,
    /// What it stands for. Of a character that becomes several pieces (`㎎`), each has all of it.
    pub span: Span,
}

/// Why a file is no vocabulary.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// The file could not be read.
    #[error("could not read the vocabulary {}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than [`VOCABULARY_LIMIT`].
    #[error("the vocabulary {} has more than {VOCABULARY_LIMIT} bytes", file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
    /// The file is not JSON, or lacks a part.
    #[error("the vocabulary {} is no tokenizer.json", file.display())]
    Json {
        /// Which file.
        file: PathBuf,
        /// Why, and where.
        source: serde_json::Error,
    },
    /// The file says something that cannot be followed.
    #[error("the vocabulary {}: {reason}", file.display())]
    Unsound {
        /// Which file.
        file: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
}

impl Vocabulary {
    /// The vocabulary that comes with this release.
    pub fn shipped() -> Self {
        static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
            let pieces: Vec<&str> = SHIPPED.lines().collect();
            // A constant of this file, which a test reads.
            Vocabulary::new(&pieces, Reading::Ours).expect("the shipped vocabulary is sound")
        });
        VOCABULARY.clone()
    }

    /// A vocabulary that comes with a public encoder: its `tokenizer.json`, or else its `vocab.txt`.
    ///
    /// A list of pieces does not say whether its encoder tells `A` from `a`; it does where a piece
    /// other than those in brackets has a capital letter.
    ///
    /// # Errors
    /// The file cannot be read, is too large, or is not a WordPiece vocabulary of the BERT kind.
    pub fn from_file(file: &Path) -> Result<Self, VocabularyError> {
        let text = read(file)?;
        let unsound = |reason| VocabularyError::Unsound {
            file: file.to_owned(),
            reason,
        };
        if file.extension().is_some_and(|end| end == "json") {
            let parsed: TokenizerFile =
                serde_json::from_str(&text).map_err(|source| VocabularyError::Json {
                    file: file.to_owned(),
                    source,
                })?;
            let pieces = parsed.pieces().map_err(unsound)?;
            Self::new(&pieces, Reading::Bert(parsed.normalizer)).map_err(unsound)
        } else {
            let pieces: Vec<&str> = text.lines().map(str::trim_end).collect();
            let is_cased = |piece: &&str| {
                !piece.starts_with('[') && piece.contains(|c: char| c.is_ascii_uppercase())
            };
            let lowercase = !pieces.iter().any(is_cased);
            let bert = BertNormalizer::new(true, true, None, lowercase);
            Self::new(&pieces, Reading::Bert(bert)).map_err(unsound)
        }
    }

    fn new(pieces: &[&str], reading: Reading) -> Result<Self, String> {
        let mut seen = HashSet::with_capacity(pieces.len());
        for (at, piece) in pieces.iter().enumerate() {
            let line = at + 1;
            if piece.is_empty() || piece.contains(char::is_whitespace) {
                return Err(format!("piece {line} is empty or has white space in it"));
            }
            if !seen.insert(*piece) {
                return Err(format!("piece {line} is there already"));
            }
        }
        let lines = pieces.join("\n");
        // Neither fails for lines in memory; should they, it is the list that is at fault.
        let model = WordPiece::read_bytes(lines.as_bytes())
            .and_then(|pieces| WordPiece::builder().vocab(pieces).build())
            .map_err(|error| error.to_string())?;
        let specials = Specials::find(&model)?;
        let (bert, alphabet) = match reading {
            Reading::Ours => {
                let characters = pieces
                    .iter()
                    .filter_map(|piece| only_character(piece.strip_prefix("##")?));
                (BertNormalizer::default(), Some(characters.collect()))
            }
            Reading::Bert(bert) => (bert, None),
        };
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(lines.as_bytes());
        context.update(b"\n");
        let digest = context.finish();
        let digest = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let inner = Arc::new(Inner {
            model,
            bert,
            alphabet,
            specials,
            digest,
        });
        Ok(Self { inner })
    }

    /// Number of pieces; ids are below it.
    pub fn len(&self) -> usize {
        self.inner.model.get_vocab_size()
    }

    /// Whether it has no piece; never so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SHA-256 of the pieces in the order of their ids, a line each; in hexadecimal. Networks trained
    /// with one vocabulary mean nothing with another.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// The ids of pieces that no text has.
    pub fn specials(&self) -> Specials {
        self.inner.specials
    }

    /// The number of a piece by its name: `[E1]`, `pneumonia`, `##itis`.
    pub fn id_of(&self, piece: &str) -> Option<u32> {
        self.inner.model.token_to_id(piece)
    }

    /// The name of a piece by its number.
    pub fn name_of(&self, id: u32) -> Option<String> {
        self.inner.model.id_to_token(id)
    }

    /// Cuts a text into pieces, in the order in which they are written. White space and control
    /// characters belong to none.
    pub fn pieces(&self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(text.len() / 4);
        let mut start = 0;
        while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
            let portion = first_portion(rest);
            // The steps of the library can fail in general; these ones cannot, as the vocabulary has
            // the piece for what is unknown.
            if let Ok(encoding) = self.inner.encode(portion) {
                let ids = encoding.get_ids().iter();
                for (&id, span) in ids.zip(encoding.get_offsets()) {
                    let span = Span::new(start + span.0, start + span.1);
                    let piece = Piece { id, span };
                    // One character can become eighteen that are unknown; once says it.
                    if id != self.inner.specials.unknown || pieces.last() != Some(&piece) {
                        pieces.push(piece);
                    }
                }
            }
            start += portion.len();
        }
        pieces
    }
}

/// Written by hand: fourteen thousand pieces help nobody.
impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vocabulary({} pieces, {})", self.len(), self.digest())
    }
}

/// Written by hand: an id says what the text says.
impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({:?})", self.span)
    }
}

/// How a text is read before it is cut.
enum Reading {
    /// As the shipped vocabulary was learnt.
    Ours,
    /// As a public encoder was trained.
    Bert(BertNormalizer),
}

impl Inner {
    fn encode(&self, text: &str) -> tokenizers::Result<tokenizers::Encoding> {
        let mut normalized = NormalizedString::from(text);
        if self.alphabet.is_some() {
            NFKC.normalize(&mut normalized)?;
        }
        self.bert.normalize(&mut normalized)?;
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words)?;
        if let Some(alphabet) = &self.alphabet {
            let is_apart = |c: char| !alphabet.contains(&c);
            words.split(|_, word| word.split(is_apart, SplitDelimiterBehavior::Isolated))?;
        }
        words.tokenize(|word| self.model.tokenize(word.get()))?;
        words.into_encoding(None, 0, OffsetType::Byte)
    }
}

impl Specials {
    fn find(model: &WordPiece) -> Result<Self, String> {
        let find = |name: &str| {
            let id = model.token_to_id(name);
            id.ok_or_else(|| format!("there is no piece {name}"))
        };
        let all = |names: [&str; 4]| {
            let [a, b, c, d] = names.map(|name| model.token_to_id(name));
            Some([a?, b?, c?, d?])
        };
        Ok(Self {
            padding: find("[PAD]")?,
            unknown: find("[UNK]")?,
            class: find("[CLS]")?,
            separator: find("[SEP]")?,
            mask: find("[MASK]")?,
            entities: all(["[E1]", "[/E1]", "[E2]", "[/E2]"])
                .or_else(|| all(["[unused1]", "[unused2]", "[unused3]", "[unused4]"])),
        })
    }
}

/// What is read of a `tokenizer.json`: the rest is about windows, which are made elsewhere.
#[derive(Deserialize)]
struct TokenizerFile<'a> {
    normalizer: BertNormalizer,
    pre_tokenizer: Named<'a>,
    #[serde(borrow)]
    model: ModelPart<'a>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(rename = "type")]
    name: &'a str,
}

#[derive(Deserialize)]
struct ModelPart<'a> {
    #[serde(rename = "type")]
    name: Option<&'a str>,
    unk_token: &'a str,
    continuing_subword_prefix: &'a str,
    #[serde(borrow)]
    vocab: std::collections::HashMap<std::borrow::Cow<'a, str>, u32>,
}

impl TokenizerFile<'_> {
    /// The pieces in the order of their ids.
    fn pieces(&self) -> Result<Vec<&str>, String> {
        let model = &self.model;
        let is_bert = self.pre_tokenizer.name == "BertPreTokenizer"
            && model.name.is_none_or(|name| name == "WordPiece")
            && (model.unk_token, model.continuing_subword_prefix) == ("[UNK]", "##");
        if !is_bert {
            return Err("only WordPiece as BERT uses it can be read".into());
        }
        let mut pieces: Vec<(u32, &str)> = model
            .vocab
            .iter()
            .map(|(piece, &id)| (id, piece.as_ref()))
            .collect();
        pieces.sort_unstable();
        match (0u32..).zip(&pieces).find(|(at, (id, _))| at != id) {
            Some((at, _)) => Err(format!("there is no piece with id {at}, or two")),
            None => Ok(pieces.into_iter().map(|(_, piece)| piece).collect()),
        }
    }
}

fn read(file: &Path) -> Result<String, VocabularyError> {
    let mut text = String::new();
    let size = File::open(file)
        .and_then(|opened| opened.take(VOCABULARY_LIMIT + 1).read_to_string(&mut text))
        .map_err(|source| VocabularyError::Read {
            file: file.to_owned(),
            source,
        })?;
    if size as u64 > VOCABULARY_LIMIT {
        return Err(VocabularyError::TooLarge {
            file: file.to_owned(),
        });
    }
    Ok(text)
}

/// The character that a text consists of, where it is one.
fn only_character(text: &str) -> Option<char> {
    let mut characters = text.chars();
    characters.next().filter(|_| characters.next().is_none())
}

/// About [`PORTION`] bytes from the start of a text. It ends behind white space, a Chinese character or a
/// sign, none of which joins with what follows, so that a text has the same pieces in portions as in one.
/// Only what goes on without any of them for four portions, and so is no writing, is cut anywhere.
fn first_portion(text: &str) -> &str {
    // A stroke through these makes a sign of its own.
    let is_sign = |c: char| c.is_ascii_punctuation() && !matches!(c, '<' | '=' | '>');
    let ends =
        |c: char| c.is_ascii_whitespace() || matches!(c, '\u{4e00}'..='\u{9fff}') || is_sign(c);
    let end = text.char_indices().find_map(|(at, c)| {
        let end = at + c.len_utf8();
        (end >= PORTION && ends(c) || end >= 4 * PORTION).then_some(end)
    });
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests;
