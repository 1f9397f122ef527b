//! What the documents claim of the tests.

use std::{collections::HashSet, fs, path::Path};

/// Names of all functions in the Rust files of a folder.
fn functions(folder: &Path, names: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("Rust is text");
            let after = text.split("fn ").skip(1);
            names.extend(after.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn all_functions() -> HashSet<String> {
    let mut known = HashSet::new();
    for folder in [
        "agent",
        "coordinator",
        "models",
        "privacy",
        "proto",
        "src",
        "tests",
    ] {
        functions(&root().join(folder), &mut known);
    }
    known
}

#[test]
fn every_test_that_the_page_on_secure_aggregation_names_exists() {
    let known = all_functions();
    let page = fs::read_to_string(root().join("docs/secure-aggregation.md")).expect("a page");
    let (_, attacks) = page.split_once("| attack | test |").expect("the table");
    let tests: Vec<_> = attacks.split('`').skip(1).step_by(2).collect();
    assert!(tests.len() > 5, "the table was not found");
    for test in tests {
        assert!(known.contains(test), "there is no {test}");
    }
}

#[test]
fn every_test_that_the_privacy_page_names_exists() {
    let known = all_functions();
    let page = fs::read_to_string(root().join("docs/privacy.md")).expect("a page");
    let rules = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut named = 0;
    for rule in rules {
        let shown_by = rule
            .trim_end_matches('|')
            .rsplit('|')
            .next()
            .expect("a cell");
        let tests: Vec<_> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test for: {rule}");
        for test in tests {
            assert!(
                known.contains(test),
                "there is no {test}, named for: {rule}"
            );
            named += 1;
        }
    }
    assert!(named > 30, "the table was not found");
}
