//! Table E.1-1 of PS3.15: what the Basic Profile and its options do to each attribute.
//!
//! The rows are data (`confidentiality.tsv`, see the README beside it); nothing here knows a single tag.

use std::{collections::HashMap, sync::LazyLock};

use dicom_core::Tag;

const ROWS: &str = include_str!("confidentiality.tsv");

/// The whole table.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    tags: HashMap<Tag, Row>,
    /// Groups with two open digits: the first two, and the element unless it is open as well.
    groups: Vec<(u16, Option<u16>, Row)>,
    private: Option<Row>,
}

/// What the profile and its options do to one attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) action: Action,
    pub(super) uids: Option<Retained>,
    pub(super) device: Option<Retained>,
    pub(super) institution: Option<Retained>,
    pub(super) characteristics: Option<Retained>,
    pub(super) full_dates: Option<Retained>,
    pub(super) modified_dates: Option<Retained>,
}

/// The action of the Basic Profile. A choice is left to the type that the attribute has in its IOD:
/// remove it unless that type wants it there, then empty, then filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// `X`
    Remove,
    /// `Z`
    Empty,
    /// `D`
    Dummy,
    /// `U`
    Uid,
    /// `X/Z`
    RemoveOrEmpty,
    /// `X/D`
    RemoveOrDummy,
    /// `X/Z/D`
    RemoveOrEmptyOrDummy,
    /// `Z/D`
    EmptyOrDummy,
    /// `X/Z/U*`
    RemoveOrEmptyOrUids,
}

/// What an option does to an attribute instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retained {
    /// `K`: it stays; a sequence is cleaned inside.
    Keep,
    /// `C`: it stays after cleaning.
    Clean,
}

/// A line of a table that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the confidentiality table is unsound")]
pub(super) struct UnsoundTable {
    line: usize,
}

impl Table {
    /// The table that ships with the program.
    pub(super) fn standard() -> &'static Self {
        static TABLE: LazyLock<Table> = LazyLock::new(|| {
            // The text is part of the program, and a test reads it.
            Table::parse(ROWS).expect("the table is sound")
        });
        &TABLE
    }

    /// Reads rows below one line of column names.
    ///
    /// # Errors
    /// A line with other columns, an unknown action, a tag that is none, a tag given twice.
    pub(super) fn parse(text: &str) -> Result<Self, UnsoundTable> {
        let mut table = Self::default();
        for (at, line) in text.lines().enumerate().skip(1) {
            table.add(line).ok_or(UnsoundTable { line: at + 1 })?;
        }
        Ok(table)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let cells: Vec<&str> = line.split('\t').collect();
        let [tag, _, action, _, options @ ..] = cells.as_slice() else {
            return None;
        };
        let row = Row::parse(action, options)?;
        if *tag == "private" {
            return self.private.replace(row).is_none().then_some(());
        }
        let (group, element) = (tag.get(..4)?, tag.get(4..8)?);
        if tag.len() > 8 {
            return None;
        }
        let hexadecimal = |digits| u16::from_str_radix(digits, 16).ok();
        match (group.strip_suffix("xx"), element) {
            (Some(group), "xxxx") => self.groups.push((hexadecimal(group)?, None, row)),
            (Some(group), element) => {
                let element = Some(hexadecimal(element)?);
                self.groups.push((hexadecimal(group)?, element, row));
            }
            (None, element) => {
                let tag = Tag(hexadecimal(group)?, hexadecimal(element)?);
                return self.tags.insert(tag, row).is_none().then_some(());
            }
        }
        Some(())
    }

    /// The row of an attribute, if the table names it.
    pub(super) fn row(&self, tag: Tag) -> Option<Row> {
        if tag.group() % 2 == 1 {
            return self.private;
        }
        if let Some(&row) = self.tags.get(&tag) {
            return Some(row);
        }
        self.groups
            .iter()
            .find(|(group, element, _)| {
                tag.group() >> 8 == *group && element.is_none_or(|element| element == tag.element())
            })
            .map(|&(_, _, row)| row)
    }
}

impl Row {
    fn parse(action: &str, options: &[&str]) -> Option<Self> {
        let action = match action {
            "X" => Action::Remove,
            "Z" => Action::Empty,
            "D" => Action::Dummy,
            "U" => Action::Uid,
            "X/Z" => Action::RemoveOrEmpty,
            "X/D" => Action::RemoveOrDummy,
            "X/Z/D" => Action::RemoveOrEmptyOrDummy,
            "Z/D" => Action::EmptyOrDummy,
            "X/Z/U*" => Action::RemoveOrEmptyOrUids,
            _ => return None,
        };
        // The four that follow clean text, structured content, graphics and private values. No program
        // does that safely, so those attributes fall under the Basic Profile.
        let &[
            uids,
            device,
            institution,
            characteristics,
            full,
            modified,
            _,
            _,
            _,
            _,
        ] = options
        else {
            return None;
        };
        Some(Self {
            action,
            uids: Retained::parse(uids)?,
            device: Retained::parse(device)?,
            institution: Retained::parse(institution)?,
            characteristics: Retained::parse(characteristics)?,
            full_dates: Retained::parse(full)?,
            modified_dates: Retained::parse(modified)?,
        })
    }
}

impl Retained {
    /// The outer `None` is a letter that means nothing.
    fn parse(letter: &str) -> Option<Option<Self>> {
        match letter {
            "" => Some(None),
            "K" => Some(Some(Self::Keep)),
            "C" => Some(Some(Self::Clean)),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The tags of the file, each with its line.
    pub(in super::super) fn lines() -> Vec<(&'static str, &'static str)> {
        ROWS.lines()
            .skip(1)
            .filter_map(|line| Some((line.split('\t').next()?, line)))
            .collect()
    }

    /// The table without the row of one tag.
    pub(in super::super) fn without(tag: &str) -> Table {
        let rows: Vec<&str> = ROWS
            .lines()
            .filter(|line| !line.starts_with(&format!("{tag}\t")))
            .collect();
        Table::parse(&rows.join("\n")).expect("sound")
    }

    fn counted(edition: &str) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (_, line) in lines() {
            let cells: Vec<&str> = line.split('\t').collect();
            if cells[3] <= edition {
                *counts.entry(cells[2]).or_default() += 1;
            }
        }
        counts
    }

    #[test]
    fn the_table_has_the_621_rows_of_2024e_and_the_36_that_came_later() {
        let older = counted("2024e");
        assert_eq!(older.values().sum::<usize>(), 621);
        let expected = [
            ("D", 92),
            ("U", 54),
            ("X", 384),
            ("X/D", 22),
            ("X/Z", 11),
            ("X/Z/D", 8),
            ("X/Z/U*", 2),
            ("Z", 42),
            ("Z/D", 6),
        ];
        assert_eq!(older, BTreeMap::from(expected));
        assert_eq!(counted("2026d").values().sum::<usize>(), 657);
        let table = Table::standard();
        assert_eq!(table.tags.len() + table.groups.len() + 1, 657);
    }

    #[test]
    fn patterns_cover_private_tags_curves_and_overlays() {
        let table = Table::standard();
        for tag in [
            Tag(0x0009, 0x0010),
            Tag(0x7FE1, 0x1001),
            Tag(0x5000, 0x3000),
            Tag(0x501E, 0x0020),
            Tag(0x6000, 0x3000),
            Tag(0x60FE, 0x4000),
        ] {
            let action = table.row(tag).map(|row| row.action);
            assert_eq!(action, Some(Action::Remove), "{tag}");
        }
        assert_eq!(table.row(Tag(0x6000, 0x0010)), None);
        assert_eq!(table.row(Tag(0x0028, 0x0010)), None);
    }

    #[test]
    fn an_unsound_line_is_named() {
        let sound = "00080050\tAccessionNumber\tZ\t2024e\t\t\t\t\t\t\t\t\t\t\n";
        assert!(Table::parse(&format!("names\n{sound}")).is_ok());
        for line in [
            sound.replace("\tZ\t", "\tQ\t"),
            sound.replace("00080050", "0008005"),
            sound.replace("00080050", "00é8050"),
            sound.replace("2024e\t", "2024e\tZ"),
            sound.replace("2024e\t", "2024e"),
            format!("{sound}{sound}"),
        ] {
            let found = Table::parse(&format!("names\n{line}")).expect_err("unsound");
            assert!((2..=3).contains(&found.line), "{line:?}");
        }
    }
}
