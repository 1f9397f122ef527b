//! Which devices train. In a build for graphics cards whatever card is found is tested, software as well.

#[cfg(feature = "gpu-wgsl")]
use crate::program::run;
use crate::program::{fail, succeed};

#[cfg(not(feature = "gpu-wgsl"))]
#[test]
fn a_build_without_graphics_cards_says_how_to_get_them() {
    let list = succeed(&["device", "list"]);
    assert!(
        list.starts_with("cpu:") && list.contains("--features gpu"),
        "{list}"
    );
    for arguments in [
        &["device", "check", "gpu:0", "--road", "wgsl"][..],
        &["demo", "--device", "gpu:0"],
    ] {
        let error = fail(arguments, 6);
        assert!(error.contains("--features gpu"), "{error}");
    }
}

#[test]
fn a_check_is_of_one_card() {
    for card in ["auto", "cpu", "gpu", "gpu:0,gpu:1"] {
        let error = fail(&["device", "check", card, "--road", "wgsl"], 3);
        assert!(error.contains(card), "{error}");
    }
}

#[cfg(feature = "gpu-wgsl")]
#[test]
fn every_card_that_is_listed_has_a_sound_road_or_none_and_says_why() {
    let output = run(&["device", "check", "gpu:0", "--road", "wgsl"]);
    if output.status.code() == Some(5) {
        println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let list = succeed(&["device", "list"]);
    println!("{list}");
    assert!(list.starts_with("gpu:0 "), "{list}");
    let roads = list.lines().filter(|line| line.starts_with("  "));
    for road in roads {
        let is_told = ["passed", "failed: ", "ended the process", "did not finish"];
        assert!(is_told.iter().any(|told| road.contains(told)), "{road}");
    }
    assert!(list.contains("WGSL: passed"), "{list}");
    fail(&["device", "check", "gpu:15", "--road", "wgsl"], 5);
}
