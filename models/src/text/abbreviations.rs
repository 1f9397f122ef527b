//! Abbreviations that end in a full stop: where a sentence does not end, or need not.
//!
//! All in lower case and without their last full stop.

/// What always stands before the thing it belongs to: titles, `vs.`, `e.g.`, `approx.`.
const BEFORE_SOMETHING: &[&str] = &[
    "dr", "drs", "mr", "mrs", "ms", "prof", "rev", "hon", "st", "capt", "lt", "sgt", "vs", "v.s",
    "e.g", "eg", "i.e", "ie", "viz", "cf", "c.f", "approx", "ca", "fig", "figs", "ref", "refs",
    "eq", "sec", "ch", "vol", "pp", "al", "resp", "incl", "excl", "esp", "w.r.t", "a.k.a",
];

/// What may stand within a sentence or at its end: ways and times of giving a drug, units, months.
const ANYWHERE: &[&str] = &[
    "po", "bid", "tid", "qid", "qd", "qhs", "prn", "iv", "im", "sc", "sq", "sl", "tab", "tabs",
    "cap", "caps", "susp", "sol", "inj", "supp", "oint", "mg", "mcg", "kg", "ml", "cc", "gm",
    "gms", "oz", "lb", "lbs", "cm", "mm", "hr", "hrs", "min", "mins", "wk", "wks", "mo", "mos",
    "yr", "yrs", "yo", "pt", "pts", "dx", "hx", "rx", "tx", "sx", "fx", "no", "nos", "wt", "ht",
    "temp", "resps", "bilat", "abd", "ext", "neg", "pos", "max", "avg", "est", "dept", "hosp",
    "univ", "dist", "prox", "inf", "ant", "lat", "med", "etc", "jr", "sr", "inc", "ltd", "co",
    "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
];

/// Whether a sentence never ends behind this word and its full stop.
pub(super) fn never_ends_a_sentence(word: &str) -> bool {
    BEFORE_SOMETHING.contains(&word)
}

/// Whether this word may have its full stop within a sentence, and may end one just as well. So may
/// any word with a point inside: `q.h.s`.
pub(super) fn may_end_a_sentence(word: &str) -> bool {
    word.contains('.') || ANYWHERE.contains(&word)
}
