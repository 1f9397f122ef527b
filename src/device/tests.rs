use std::{
    collections::HashMap,
    os::unix::fs::PermissionsExt as _,
    process::{ExitStatus, Output},
    sync::Mutex,
};

use super::*;

/// Cards that answer by a script, in a build with both roads.
#[derive(Default)]
struct Script {
    verdicts: HashMap<(usize, &'static str), Verdict>,
    asked: Mutex<Vec<(usize, Road)>>,
}

impl Script {
    fn with(mut self, card: usize, spirv: Verdict, wgsl: Verdict) -> Self {
        self.verdicts.insert((card, "spirv"), spirv);
        self.verdicts.insert((card, "wgsl"), wgsl);
        self
    }
}

impl Trials for Script {
    fn roads(&self) -> &[Road] {
        &[Road::Spirv, Road::Wgsl]
    }

    async fn test(&self, card: usize, road: Road) -> Verdict {
        self.asked.lock().expect("no panic").push((card, road));
        let verdict = self.verdicts.get(&(card, road.name()));
        verdict.cloned().unwrap_or(Verdict::Absent)
    }
}

/// A build without graphics cards.
struct Without;

impl Trials for Without {
    fn roads(&self) -> &[Road] {
        &[]
    }

    async fn test(&self, _: usize, _: Road) -> Verdict {
        panic!("there is nothing to test")
    }
}

fn passed(is_software: bool) -> Verdict {
    Verdict::Passed(Tested {
        name: "A card".into(),
        is_software,
    })
}

fn crashed() -> Verdict {
    Verdict::Crashed("signal 11".into())
}

fn wrong() -> Verdict {
    Verdict::Failed("it computes wrong numbers".into())
}

fn wish(text: &str) -> Wish {
    text.parse().expect("a wish")
}

#[tokio::test]
async fn the_fastest_road_that_passes_is_taken_and_no_other_is_tried_after_it() {
    let script = Script::default().with(0, passed(false), passed(false));
    let chosen = choose(&wish("auto"), &script).await;
    assert_eq!(chosen, Ok(vec![Device::Card(0, Road::Spirv)]));
    assert_eq!(*script.asked.lock().expect("no panic"), [(0, Road::Spirv)]);
}

#[tokio::test]
async fn a_road_that_crashes_hangs_or_is_wrong_means_the_other_road() {
    for bad in [crashed(), wrong(), Verdict::TimedOut, Verdict::Absent] {
        let script = Script::default().with(0, bad.clone(), passed(false));
        for text in ["auto", "gpu", "gpu:0"] {
            let chosen = choose(&wish(text), &script).await;
            assert_eq!(chosen, Ok(vec![Device::Card(0, Road::Wgsl)]), "{bad:?}");
        }
    }
}

#[tokio::test]
async fn a_card_with_no_sound_road_means_the_next_card_or_the_processor() {
    let bad = || Script::default().with(0, crashed(), wrong());
    for text in ["auto", "gpu", "gpu:0"] {
        assert_eq!(choose(&wish(text), &bad()).await, Ok(vec![]));
    }
    let next = bad().with(1, passed(false), passed(false));
    for text in ["auto", "gpu", "gpu:0,gpu:1"] {
        let chosen = choose(&wish(text), &next).await;
        assert_eq!(chosen, Ok(vec![Device::Card(1, Road::Spirv)]));
    }
}

#[tokio::test]
async fn one_card_is_taken_by_itself_and_all_of_them_when_asked_for() {
    let script = || {
        Script::default()
            .with(0, passed(false), passed(false))
            .with(1, wrong(), passed(false))
    };
    let (first, second) = (Device::Card(0, Road::Spirv), Device::Card(1, Road::Wgsl));
    assert_eq!(choose(&wish("auto"), &script()).await, Ok(vec![first]));
    for text in ["gpu", "gpu:0,gpu:1"] {
        let chosen = choose(&wish(text), &script()).await;
        assert_eq!(chosen, Ok(vec![first, second]));
    }
    assert_eq!(choose(&wish("gpu:1"), &script()).await, Ok(vec![second]));
    let cpu = script();
    assert_eq!(choose(&wish("cpu"), &cpu).await, Ok(vec![]));
    assert!(cpu.asked.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn software_that_looks_like_a_card_is_taken_only_by_its_number() {
    let script = Script::default().with(0, passed(true), passed(true));
    for text in ["auto", "gpu"] {
        assert_eq!(choose(&wish(text), &script).await, Ok(vec![]));
    }
    let chosen = choose(&wish("gpu:0"), &script).await;
    assert_eq!(chosen, Ok(vec![Device::Card(0, Road::Spirv)]));
}

#[tokio::test]
async fn a_card_that_is_not_there_is_a_mistake_only_if_it_was_asked_for_by_number() {
    let none = Script::default();
    assert_eq!(choose(&wish("auto"), &none).await, Ok(vec![]));
    assert_eq!(choose(&wish("gpu"), &none).await, Ok(vec![]));
    let refused = choose(&wish("gpu:2"), &none).await;
    assert_eq!(refused, Err(NoSuchCard::Absent(2)));
}

#[tokio::test]
async fn without_graphics_cards_auto_is_the_processor_and_a_card_an_error_that_says_how_to_build() {
    for text in ["auto", "cpu"] {
        assert_eq!(choose(&wish(text), &Without).await, Ok(vec![]));
    }
    for text in ["gpu", "gpu:0"] {
        let refused = choose(&wish(text), &Without).await.expect_err("not built");
        assert!(refused.to_string().contains("--features gpu"), "{refused}");
        assert_eq!(refused.code(), ErrorCode::Precondition);
    }
    assert!(survey(&Without).await.is_empty());
}

#[tokio::test]
async fn a_survey_tests_every_road_to_every_card() {
    let script =
        Script::default()
            .with(0, crashed(), passed(true))
            .with(1, passed(false), passed(false));
    let cards = survey(&script).await;
    assert_eq!(cards.len(), 2);
    let verdicts = vec![(Road::Spirv, crashed()), (Road::Wgsl, passed(true))];
    assert_eq!(cards[0].verdicts, verdicts);
    let chosen = cards[0].chosen().map(|(device, _)| device);
    assert_eq!(chosen, Some(Device::Card(0, Road::Wgsl)));
}

/// How a process ended, as the system codes it: an exit code in the upper byte, a signal in the lower.
fn ended(status: i32, stdout: &str, stderr: &str) -> Verdict {
    let output = Output {
        status: ExitStatus::from_raw(status),
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    verdict(Device::Card(0, Road::Spirv), &output)
}

#[test]
fn a_child_passes_only_by_its_last_line_and_its_exit_code() {
    let line = r#"{"passed":"gpu:0 over SPIR-V","name":"A card","is_software":false}"#;
    assert_eq!(
        ended(0, &format!("a driver's greeting\n{line}\n"), ""),
        passed(false)
    );
    // The line alone is not enough, nor the exit code, nor another device's line.
    assert_eq!(ended(11, line, ""), crashed());
    assert!(matches!(ended(1 << 8, line, "error: zeros"), Verdict::Failed(why) if why == "zeros"));
    assert!(matches!(
        ended(101 << 8, line, "panicked"),
        Verdict::Crashed(_)
    ));
    for text in [
        "",
        "passed",
        "{}",
        &line.replace("gpu:0", "gpu:1"),
        &format!("{line}\nbye"),
    ] {
        assert!(matches!(ended(0, text, ""), Verdict::Failed(_)), "{text}");
    }
    assert_eq!(
        ended(5 << 8, "", "error: there is no gpu:0"),
        Verdict::Absent
    );
}

/// A program in place of this one.
async fn of_program(text: &str, patience: Duration) -> Verdict {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program");
    std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).expect("room");
    let executable = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&program, executable).expect("our own file");
    Children { program, patience }.test(0, Road::Wgsl).await
}

#[tokio::test]
async fn children_that_hang_or_die_are_found_out() {
    let long = Duration::from_secs(60);
    let hung = of_program("exec sleep 60", Duration::from_millis(200)).await;
    assert_eq!(hung, Verdict::TimedOut);
    let died = of_program("kill -SEGV $$", long).await;
    assert_eq!(died, crashed());
    let said = of_program("echo error: wrong numbers >&2; exit 1", long).await;
    assert_eq!(said, Verdict::Failed("wrong numbers".into()));
    let line = r#"{"passed":"gpu:0 over WGSL","name":"'"$*"'","is_software":true}"#;
    let told = of_program(&format!("echo '{line}'"), long).await;
    let Verdict::Passed(Tested { name, is_software }) = told else {
        panic!("not passed: {told:?}");
    };
    assert_eq!(name, "device check gpu:0 --road wgsl");
    assert!(is_software);
}
