//! Receivers that take, refuse, keep silent and lie; and a real one.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use proptest::prelude::*;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::fhir::report::{
    NOTICE,
    tests::{full, line},
};

const PATIENCE: Duration = Duration::from_secs(10);

fn parties() -> Parties {
    let application = |name, facility| Application {
        name: line(name),
        facility: line(facility),
    };
    Parties {
        sender: application("CONSILIUM", "NODE|1"),
        receiver: application("HIS", "医院"),
        authority: line("HOSPITAL"),
    }
}

fn segments(message: &str) -> Vec<Vec<&str>> {
    message
        .split_terminator('\r')
        .map(|segment| segment.split('|').collect())
        .collect()
}

#[test]
fn a_message_says_what_the_report_says() {
    let report = full();
    let message = report.to_hl7(&parties());
    let segments = segments(&message);
    let kinds: Vec<&str> = segments.iter().map(|segment| segment[0]).collect();
    assert_eq!(
        kinds,
        [
            "MSH", "PID", "OBR", "NTE", "OBX", "OBX", "OBX", "OBX", "OBX", "NTE"
        ]
    );
    let header = &segments[0];
    assert_eq!(header[8], "ORU^R01^ORU_R01");
    assert_eq!(header[9], report.control_id());
    assert_eq!((header[11], header[17]), ("2.5.1", "UNICODE UTF-8"));
    assert_eq!(header[3], "NODE\\F\\1");
    assert_eq!(header[6], "20261129140907+0000");
    assert_eq!(segments[1][3], "4711\\F\\\\S\\\\T\\\\R\\\\E\\^^^HOSPITAL");
    assert_eq!(segments[2][25], "P");
    assert_eq!(segments[3][3], NOTICE);
    let values: Vec<&str> = segments[4..9].iter().map(|segment| segment[5]).collect();
    let conclusion = "Pneumonia is likely.\\.br\\肺炎的可能性大。 a\\F\\b\\S\\c\\R\\d\\E\\e\\T\\f";
    assert_eq!(values, ["0.912346", "0", "pneumonia", "no", conclusion]);
    assert!(segments[4..9].iter().all(|segment| segment[11] == "P"));
}

/// Sends to a receiver that answers with these bytes, and says whether the frame it got was sound.
async fn answered(answer: &[u8], pieces: usize) -> Result<(), DeliveryError> {
    let (mut ours, mut theirs) = duplex(1 << 20);
    let answer = answer.to_vec();
    let receiver = tokio::spawn(async move {
        let mut got = Vec::new();
        while !got.ends_with(&[END, b'\r']) {
            let mut piece = [0; 4096];
            let read = theirs.read(&mut piece).await.expect("a message");
            got.extend_from_slice(&piece[..read]);
        }
        assert!(got.starts_with(b"\x0bMSH|"));
        for piece in answer.chunks(pieces) {
            theirs.write_all(piece).await.expect("taken");
            tokio::task::yield_now().await;
        }
    });
    let sent = deliver(&mut ours, &full(), &parties(), PATIENCE).await;
    receiver.await.expect("the receiver ends");
    sent
}

fn acknowledgement(code: &str, id: &str) -> Vec<u8> {
    format!("\x0bMSH|^~\\&|HIS|医院|||20260101||ACK|7|P|2.5.1\rMSA|{code}|{id}\r\x1c\r")
        .into_bytes()
}

#[tokio::test]
async fn only_aa_of_this_message_takes_it() {
    let id = full().control_id();
    for pieces in [1, 7, 10_000] {
        let taken = answered(&acknowledgement("AA", &id), pieces).await;
        assert!(taken.is_ok(), "{taken:?}");
    }
    let failed = answered(&acknowledgement("AE", &id), 99).await;
    assert!(matches!(&failed, Err(error @ DeliveryError::Failed) if !error.is_lasting()));
    let rejected = answered(&acknowledgement("AR", &id), 99).await;
    assert!(matches!(&rejected, Err(error @ DeliveryError::Rejected) if error.is_lasting()));
    for bad in [
        acknowledgement("AA", "7"),
        acknowledgement("OK", &id),
        b"\x0bMSA|AA\x1c".to_vec(),
        b"\x0bMSH|^~\\&|\rPID|1\x1c\r".to_vec(),
        b"AA\x1c\r".to_vec(),
        b"\x1c".to_vec(),
        b"\x0bMSH|".to_vec(),
        vec![],
        vec![b'x'; ACK_LIMIT as usize + 1],
    ] {
        let answer = answered(&bad, 4096).await;
        assert!(
            matches!(answer, Err(DeliveryError::Unsound(_))),
            "{answer:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn silence_has_an_end() {
    let (mut ours, _theirs) = duplex(1 << 20);
    let late = deliver(&mut ours, &full(), &parties(), PATIENCE).await;
    assert!(matches!(late, Err(DeliveryError::Late(PATIENCE))));
}

#[tokio::test]
async fn nobody_there_is_said() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let refused = send(address, &full(), &parties(), PATIENCE).await;
    assert!(matches!(refused, Err(DeliveryError::Io(_))));
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(bytes: Vec<u8>) {
        let _ = judge(&bytes, "1");
    }

    #[test]
    fn an_answer_in_disorder_takes_nothing(text in "(MSH|MSA|AA|1|\\||\r|\\^){0,12}") {
        let of_ours = text.contains("MSA|AA|1");
        prop_assert!(judge(text.as_bytes(), "1").is_err() || of_ours);
    }
}

/// A real receiver, killed when the test ends.
struct Receiver {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    port: u16,
}

impl Receiver {
    /// None (and a line that says so) where it is not installed.
    fn start(answer: &str) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fhir");
        let python = folder.join(".venv/bin/python");
        if !python.exists() {
            let note = "skipped: hl7 and hl7apy are not installed in tests/fhir/.venv";
            writeln!(std::io::stderr(), "{note}").expect("stderr takes a line");
            return None;
        }
        let mut child = Command::new(python)
            .arg(folder.join("receive.py"))
            .args(["--answer", answer])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = lines.next().expect("a port").expect("text");
        Some(Self {
            child,
            lines,
            port: port.parse().expect("a port"),
        })
    }

    fn understood(&mut self) -> Value {
        let said = self.lines.next().expect("a line").expect("text");
        serde_json::from_str(&said).expect("JSON")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_real_receiver_understands_and_takes_a_report() {
    let Some(mut receiver) = Receiver::start("AA") else {
        return;
    };
    let report = full();
    let taken = send(("127.0.0.1", receiver.port), &report, &parties(), PATIENCE).await;
    assert!(taken.is_ok(), "{taken:?}");
    let understood = receiver.understood();
    assert_eq!(understood["problem"], Value::Null, "{understood}");
    assert_eq!(understood["control"], report.control_id());
    assert_eq!(understood["charset"], "UNICODE UTF-8");
    assert_eq!(understood["patient"], "4711|^&~\\");
    assert_eq!(understood["notice"], NOTICE);
    assert_eq!(understood["status"], "P");
    let observations = understood["observations"].as_array().expect("a list");
    assert_eq!(observations.len(), 5);
    assert_eq!(observations[0][1], "Probability of pneumonia");
    let conclusion = observations[4][2].as_str().expect("a text");
    assert!(
        conclusion.contains("肺炎的可能性大。 a|b^c~d\\e&f"),
        "{conclusion}"
    );
}

/// Otherwise the test above could not fail.
#[tokio::test]
async fn a_real_receiver_finds_what_is_broken() {
    let Some(mut receiver) = Receiver::start("AA") else {
        return;
    };
    let message = full().to_hl7(&parties());
    let broken = message.replace("|20261129140907+0000|", "|yesterday|");
    let mut stream = TcpStream::connect(("127.0.0.1", receiver.port))
        .await
        .expect("it listens");
    let frame = [b"\x0b", broken.as_bytes(), b"\x1c\r"].concat();
    stream.write_all(&frame).await.expect("taken");
    let understood = receiver.understood();
    assert!(understood["problem"].is_string(), "{understood}");
}

#[tokio::test]
async fn a_real_receiver_refuses_a_report() {
    let Some(receiver) = Receiver::start("AR") else {
        return;
    };
    let refused = send(("127.0.0.1", receiver.port), &full(), &parties(), PATIENCE).await;
    assert!(
        matches!(refused, Err(DeliveryError::Rejected)),
        "{refused:?}"
    );
}
