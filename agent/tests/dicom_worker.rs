//! The decoder in a process of its own: what kills the child is an error to the parent.
//!
//! This program is both: without arguments it runs the tests, and each test starts it again as the child
//! that it needs. That is why it has no test harness, which would write into the child's answer.

#[path = "../src/dicom/tests/objects.rs"]
mod objects;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read as _, Write as _},
    panic,
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use consilium_agent::dicom::{
    Contrast, DataSet, DecodeError, Decoder, Limits, Pixels, Refusal, Request, Step, Tags, Uid,
    Window, WorkerLimits, decode_worker, orientation,
};
use rustix::time::{ClockId, clock_gettime};

use objects::*;

const EXPLICIT: &str = "1.2.840.10008.1.2.1";

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("decode") => decode_worker(),
        Some("abort") => std::process::abort(),
        Some("hang") => loop {
            thread::sleep(Duration::from_secs(60));
        },
        Some("spin") => {
            let limits = WorkerLimits {
                processor: Duration::from_secs(1),
                ..WorkerLimits::default()
            };
            limits.confine().expect("limits");
            loop {
                std::hint::spin_loop();
            }
        }
        Some("babble") => {
            let _ = io::stdout().write_all(b"a panic message where an answer should be");
            ExitCode::SUCCESS
        }
        Some("flood") => {
            while io::stdout().write_all(&[7; 1 << 16]).is_ok() {}
            ExitCode::SUCCESS
        }
        Some("unguarded") => unguarded(),
        Some("mutate") => mutate(),
        _ => run_tests(),
    }
}

fn run_tests() -> ExitCode {
    let tests: [(&str, fn()); 7] = [
        (
            "a_picture_comes_back_as_it_was_decoded",
            a_picture_comes_back_as_it_was_decoded,
        ),
        (
            "what_the_child_refuses_is_told_by_step",
            what_the_child_refuses_is_told_by_step,
        ),
        (
            "the_three_reproducers_are_refused",
            the_three_reproducers_are_refused,
        ),
        (
            "without_the_walk_the_limits_alone_contain_them",
            without_the_walk_the_limits_alone_contain_them,
        ),
        (
            "a_child_that_dies_or_hangs_is_an_error",
            a_child_that_dies_or_hangs_is_an_error,
        ),
        ("memory_and_time_are_limited", memory_and_time_are_limited),
        (
            "changed_objects_cause_no_panic_and_stay_within_memory",
            changed_objects_cause_no_panic_and_stay_within_memory,
        ),
    ];
    let only = env::args().nth(1).unwrap_or_default();
    for (name, test) in tests {
        if name.contains(&only) || only.starts_with('-') {
            let start = Instant::now();
            test();
            say(&format!("test {name} ... ok ({:.1?})", start.elapsed()));
        }
    }
    ExitCode::SUCCESS
}

fn say(line: &str) {
    writeln!(io::stdout(), "{line}").expect("standard output takes a line");
}

/// A decoder whose child is this program in a role.
fn decoder(role: &str) -> Decoder {
    Decoder {
        program: env::current_exe().expect("this program"),
        arguments: vec![role.into()],
        limits: WorkerLimits {
            memory: 1 << 30,
            processor: Duration::from_secs(20),
            wall: Duration::from_secs(60),
        },
    }
}

fn decode(decoder: &Decoder, object: &[u8], request: &Request) -> Result<Answer, DecodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .expect("a runtime")
        .block_on(decoder.decode(object, request))
}

type Answer = consilium_agent::dicom::Decoded;

fn a_picture_comes_back_as_it_was_decoded() {
    let entries = with(
        image(2, 3, 12),
        [
            text((0x10, 0x20), "LO", "ä"),
            text((8, 5), "CS", "ISO_IR 192"),
            text((0x20, 0x20), "CS", "R\\F"),
            native_words(&[0, 100, 200, 0, 0, 0]),
        ],
    );
    let bytes = object(EXPLICIT, &entries);
    let window = Window {
        centre: 100.5,
        width: 201.0,
    };
    let request = Request {
        window: Some(window),
        ..Request::default()
    };
    let decoded = decode(&decoder("decode"), &bytes, &request).expect("an answer");
    assert_eq!(decoded.tags.patient_id.as_deref(), Some("ä"));
    assert_eq!(
        decoded.tags.sop_instance.as_ref().map(Uid::as_str),
        Some("1.2.3.4")
    );
    let rendered = decoded.picture.expect("a picture");
    assert_eq!(rendered.picture.pixels(), [1.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(rendered.contrast, Contrast::Given(window));
    assert!(rendered.turn.mirror);
    let set = DataSet::read(bytes, &request.limits).expect("a data set");
    let here = Pixels::of(&set, &request.limits).expect("pixels");
    assert_eq!(here.render(0, Some(window)).expect("a picture"), rendered);
    assert_eq!(Tags::of(&set), decoded.tags);
}

fn what_the_child_refuses_is_told_by_step() {
    let refused = |result: Result<Answer, DecodeError>| match result {
        Err(DecodeError::Refused(Refusal { step, .. })) => step,
        Ok(decoded) => decoded.picture.expect_err("a refusal").step,
        Err(error) => panic!("{error}"),
    };
    let child = decoder("decode");
    let step = |bytes: &[u8]| refused(decode(&child, bytes, &Request::default()));
    assert_eq!(step(b"no object"), Step::Object);
    assert_eq!(
        step(&object(EXPLICIT, &[text((8, 0x60), "CS", "SR")])),
        Step::NoPixels
    );
    let pixels = image(2, 2, 8);
    assert_eq!(
        step(&object(EXPLICIT, &with(pixels.clone(), [native(&[1])]))),
        Step::Pixels
    );
    let coded = with(pixels.clone(), [fragments(vec![vec![0; 8]])]);
    assert_eq!(
        step(&object("1.2.840.10008.1.2.4.80", &coded)),
        Step::NotDecoded
    );
    let lying = [text((0x20, 0x20), "CS", "R\\L"), native(&[0; 4])];
    assert_eq!(
        step(&object(EXPLICIT, &with(pixels, lying))),
        Step::Orientation
    );
    let request = Request {
        limits: Limits {
            object_bytes: 100,
            ..Limits::default()
        },
        ..Request::default()
    };
    assert_eq!(refused(decode(&child, &[0; 101], &request)), Step::Object);
}

fn the_three_reproducers_are_refused() {
    let child = decoder("decode");
    for bytes in [memory_bomb(), nested()] {
        let error = decode(&child, &bytes, &Request::default()).expect_err("refused");
        assert!(matches!(error, DecodeError::Refused(_)), "{error}");
    }
    let decoded = decode(&child, &overlong_rle(), &Request::default()).expect("sound tags");
    assert_eq!(decoded.picture.expect_err("refused").step, Step::Pixels);
}

/// As a child, but without this crate's reader between the bytes and dicom-object.
fn unguarded() -> ExitCode {
    let limits = decoder("").limits;
    limits.confine().expect("limits");
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input).expect("a question");
    // Two limits, the length of the request; the request, the length of the object.
    let length = input[16..24]
        .try_into()
        .map(u64::from_le_bytes)
        .expect("8 bytes");
    match dicom_object::from_reader(&input[24 + length as usize + 8..]) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn without_the_walk_the_limits_alone_contain_them() {
    for bytes in [memory_bomb(), nested()] {
        let error = decode(&decoder("unguarded"), &bytes, &Request::default());
        let error = error.expect_err("no answer");
        assert!(matches!(error, DecodeError::Died(_)), "{error}");
    }
}

fn a_child_that_dies_or_hangs_is_an_error() {
    let bytes = vec![0; 1 << 20];
    let request = Request::default();
    let error = decode(&decoder("abort"), &bytes, &request).expect_err("no answer");
    assert!(matches!(error, DecodeError::Died(_)), "{error}");
    assert!(error.to_string().contains("signal: 6"), "{error}");
    let mut hanging = decoder("hang");
    hanging.limits.wall = Duration::from_millis(300);
    let start = Instant::now();
    let error = decode(&hanging, &bytes, &request).expect_err("no answer");
    assert!(matches!(error, DecodeError::TimedOut(_)), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
    let error = decode(&decoder("babble"), &bytes, &request).expect_err("no answer");
    assert!(matches!(error, DecodeError::Garbled), "{error}");
    let small = Request {
        limits: Limits {
            frame_pixels: 1 << 16,
            ..Limits::default()
        },
        ..request
    };
    let error = decode(&decoder("flood"), &bytes, &small).expect_err("no answer");
    assert!(matches!(error, DecodeError::Garbled), "{error}");
    let mut missing = decoder("decode");
    missing.program = "/no/such/program".into();
    let error = decode(&missing, &bytes, &request).expect_err("no child");
    assert!(matches!(error, DecodeError::Start(_)), "{error}");
}

fn memory_and_time_are_limited() {
    // 2,500 x 2,500 pixels take 6 MB as they are, and ten times that on the way.
    let pixels = vec![1; 6_250_000];
    let large = object(EXPLICIT, &with(image(2500, 2500, 8), [native(&pixels)]));
    let mut child = decoder("decode");
    assert!(
        decode(&child, &large, &Request::default())
            .expect("an answer")
            .picture
            .is_ok()
    );
    child.limits.memory = 50 << 20;
    let error = decode(&child, &large, &Request::default()).expect_err("too little memory");
    assert!(matches!(error, DecodeError::Died(_)), "{error}");
    let error = decode(&decoder("spin"), b"", &Request::default()).expect_err("too little time");
    assert!(matches!(error, DecodeError::Died(_)), "{error}");
    assert!(error.to_string().contains("signal: 24"), "{error}");
}

/// Objects to change: the small ones of the public collection, where it is at hand, and some made here.
fn sound_objects() -> Vec<Vec<u8>> {
    let pixels: Vec<u8> = (0..16 * 16).map(|at| (at * 7 % 251) as u8).collect();
    let inside = vec![text((8, 0x60), "CS", "CT"), text((0x10, 0x20), "LO", "1")];
    let entries = |pixels| {
        with(
            image(16, 16, 8),
            [items((0x40, 0xA730), vec![inside.clone()]), pixels],
        )
    };
    let mut objects = vec![
        object(EXPLICIT, &entries(native(&pixels))),
        object("1.2.840.10008.1.2", &entries(native(&pixels))),
        object("1.2.840.10008.1.2.2", &entries(native(&pixels))),
        object("1.2.840.10008.1.2.1.99", &entries(native(&pixels))),
        object(
            "1.2.840.10008.1.2.5",
            &entries(fragments(vec![rle(&[&pixels])])),
        ),
        object(
            "1.2.840.10008.1.2.4.50",
            &entries(fragments(vec![jpeg(&pixels, 16, 16)])),
        ),
        object(
            "1.2.840.10008.1.2.4.70",
            &entries(fragments(vec![lossless_jpeg(&pixels, 16, 16)])),
        ),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/dicom/files");
    match fs::read_dir(&folder) {
        Err(_) => say(&format!("skipped: {} is not here", folder.display())),
        Ok(files) => {
            let paths = files.map(|file| file.expect("a file").path());
            let files = paths.map(|path| fs::read(path).expect("a file"));
            objects.extend(files.filter(|bytes| (1..=60_000).contains(&bytes.len())));
        }
    }
    // The order of a folder is not fixed.
    objects.sort();
    objects
}

/// In a child of its own: a crash must not end the tests without a word.
fn changed_objects_cause_no_panic_and_stay_within_memory() {
    let child = Command::new(env::current_exe().expect("this program"))
        .arg("mutate")
        .stderr(Stdio::null())
        .output()
        .expect("a child");
    say(String::from_utf8_lossy(&child.stdout).trim_end());
    assert!(child.status.success(), "{}", child.status);
}

/// Objects with bytes changed, cut, doubled and moved for a bounded time (`FUZZ_SECONDS`, 2 unless told
/// otherwise), shown to every reader, with 1 GiB of address space.
fn mutate() -> ExitCode {
    let limits = WorkerLimits {
        processor: Duration::from_secs(1 << 20),
        ..decoder("").limits
    };
    limits.confine().expect("limits");
    let seconds = env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(2.0));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    let objects = sound_objects();
    let (mut outcomes, mut slowest, mut tried) = (BTreeMap::new(), (Duration::ZERO, 0), 0);
    let mut largest = (0, 0, "");
    while Instant::now() < end || tried < objects.len() {
        let mut bytes = objects[tried % objects.len()].clone();
        tried += 1;
        // Half of them keep their lengths, so that more of them come as far as a decoder.
        let kinds = [4, 8][below(2)];
        for _ in 0..1 + below(kinds) {
            let at = below(bytes.len());
            let to = at + below(64.min(bytes.len() - at));
            match below(kinds) {
                0..=2 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
                3 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][below(6)],
                4 => bytes.truncate(at),
                5 => bytes.insert(at, below(256) as u8),
                6 => drop(bytes.drain(at..to)),
                _ => bytes.extend_from_within(at..to),
            }
        }
        let start = processor_time();
        let Ok(outcome) = panic::catch_unwind(|| look(bytes)) else {
            say(&format!("a panic at object {tried}"));
            return ExitCode::FAILURE;
        };
        slowest = slowest.max((processor_time() - start, tried));
        let now = peak();
        if now > largest.0 {
            largest = (now, tried, outcome);
        }
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    say(&format!(
        "{tried} objects, slowest {:.1?} (number {}), peak {} MB (number {}, {}): {outcomes:?}",
        slowest.0,
        slowest.1,
        largest.0 >> 10,
        largest.1,
        largest.2
    ));
    match largest.0 < 512 << 10 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Most memory that this process has had so far, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let peak = lines
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    peak.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Spent by this process so far: other programs do not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Shows an object to every reader.
fn look(bytes: Vec<u8>) -> &'static str {
    let limits = Limits {
        pixel_bytes: 16 << 20,
        object_bytes: 16 << 20,
        ..Limits::default()
    };
    let Ok(set) = DataSet::read(bytes, &limits) else {
        return "refused";
    };
    let _ = (Tags::of(&set), orientation(&set, 0), set.to_object());
    let Ok(pixels) = Pixels::of(&set, &limits) else {
        return "no pixels";
    };
    let last = pixels.layout().frames() - 1;
    match (pixels.render(0, None), pixels.frame(last)) {
        (Ok(rendered), _) => {
            let mut pixels = rendered.picture.pixels().iter();
            assert!(pixels.all(|pixel| (0.0..=1.0).contains(pixel)));
            "picture"
        }
        _ => "no picture",
    }
}
