//! Decoding in a process of its own.
//!
//! Whatever an object does to a decoder, it does to a child with little memory and little time: an
//! allocation that fails, a stack that overflows, a loop that does not end become an error here. The child is
//! the same program; it limits itself before it reads the object, as this crate runs no code between fork
//! and exec. It inherits no environment, writes no file and leaves no core: memory holds patients' data.
//!
//! This contains accidents. A decoder that an object takes over still runs as the user that the node runs as.
//!
//! To the child: memory (bytes), processor time (seconds), length of the request, the request as JSON, length
//! of the object, the object. Back: length of the reply, the reply as JSON, the picture's pixels. Lengths and
//! limits are 64 bits, pixels `f32`, all little endian.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use consilium_models::imaging::Picture;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::{
    Contrast, DataSet, FrameError, Limits, Orientation, Pixels, RenderError, Rendered, Tags, Turn,
    WalkError, Window,
    deidentify::{Suspicion, suspicions},
};

/// Most bytes of a request or a reply, pixels aside: tags are some thirty texts of bounded length.
const MOST_JSON: u64 = 4 << 20;

/// The argument by which this program's entry point knows that it is such a child.
pub const WORKER: &str = "dicom-worker";

/// What a child may use.
#[derive(Debug, Clone, Copy)]
pub struct WorkerLimits {
    /// Bytes of address space, the program itself included.
    pub memory: u64,
    /// Processor time, in whole seconds.
    pub processor: Duration,
    /// Time from start to end.
    pub wall: Duration,
}

/// 4 GiB, 60 s of processor time, 120 s in all: enough for the largest objects that the default of [`Limits`]
/// passes.
impl Default for WorkerLimits {
    fn default() -> Self {
        Self {
            memory: 4 << 30,
            processor: Duration::from_secs(60),
            wall: Duration::from_secs(120),
        }
    }
}

impl WorkerLimits {
    /// Limits this process to its memory and processor time for the rest of its life, and forbids it to write
    /// files and cores.
    ///
    /// # Errors
    /// The system refuses, as it does when a limit is already lower.
    pub fn confine(&self) -> io::Result<()> {
        let processor = self.processor.as_secs().max(1);
        let limits = [
            (Resource::As, self.memory, self.memory),
            // At the first the process gets SIGXCPU, which tells why it ended, at the second SIGKILL.
            (Resource::Cpu, processor, processor.saturating_add(1)),
            (Resource::Core, 0, 0),
            (Resource::Fsize, 0, 0),
        ];
        for (resource, current, maximum) in limits {
            let limit = Rlimit {
                current: Some(current),
                maximum: Some(maximum),
            };
            setrlimit(resource, limit)?;
        }
        Ok(())
    }
}

/// What is wanted of an object.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Request {
    /// The frame, counted from 0.
    pub frame: usize,
    /// A window instead of the object's own.
    pub window: Option<Window>,
    /// What the object may claim.
    pub limits: Limits,
}

/// What a child found.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object's attributes.
    pub tags: Tags,
    /// Why a person should look at its pixels before anything is done with them.
    pub suspicions: Vec<Suspicion>,
    /// The picture, or why there is none: reports have none, and are objects all the same.
    pub picture: Result<Rendered, Refusal>,
}

/// Which step refused an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// It is no DICOM object, or not a sound one.
    Object,
    /// It holds no pixels.
    NoPixels,
    /// Its transfer syntax, or its kind of pixels, is not decoded: another form of it may be.
    NotDecoded,
    /// Its pixels are damaged, too many, or contradict its attributes.
    Pixels,
    /// Its orientation tags cannot be followed.
    Orientation,
}

/// Why a child gave no picture. The message names tags and bytes, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Refusal {
    /// The step that refused.
    pub step: Step,
    /// Why.
    pub message: String,
}

impl From<RenderError> for Refusal {
    fn from(error: RenderError) -> Self {
        let step = match &error {
            RenderError::Orientation(_) => Step::Orientation,
            RenderError::Frame(FrameError::NoPixels) => Step::NoPixels,
            RenderError::Frame(FrameError::NotDecoded(_) | FrameError::Unsupported(_)) => {
                Step::NotDecoded
            }
            RenderError::Frame(_) => Step::Pixels,
        };
        let message = error.to_string();
        Self { step, message }
    }
}

/// Why nothing came back from a child.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It did not start.
    #[error("the decoder did not start")]
    Start(#[source] io::Error),
    /// It refused the object.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was ended for taking too long.
    #[error("the decoder took longer than {0:?} and was ended")]
    TimedOut(Duration),
    /// It ended without an answer: out of memory, out of processor time, or a crash.
    #[error("the decoder ended without an answer ({0})")]
    Died(ExitStatus),
    /// Its answer makes no sense.
    #[error("the decoder gave no sensible answer")]
    Garbled,
}

/// Starts children that decode.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// The program whose entry point calls [`decode_worker`].
    pub program: PathBuf,
    /// The arguments that make it do so.
    pub arguments: Vec<String>,
    /// What each child may use.
    pub limits: WorkerLimits,
}

impl Decoder {
    /// Whose children are this very program, whose entry point knows [`WORKER`].
    ///
    /// # Errors
    /// The system does not say which program this is.
    pub fn of_this_program() -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            arguments: vec![WORKER.to_owned()],
            limits: WorkerLimits::default(),
        })
    }

    /// As [`decode`](Self::decode), for a thread that may wait.
    ///
    /// # Errors
    /// As there, or no thread can be started.
    pub fn decode_waiting(&self, object: &[u8], request: &Request) -> Result<Decoded, DecodeError> {
        // On a thread of its own, as the caller's may belong to a runtime already.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(DecodeError::Start)?;
                runtime.block_on(self.decode(object, request))
            });
            match waiting.join() {
                Ok(decoded) => decoded,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Decodes one frame of an object, and its tags, in a new child. If the future is dropped, the child ends.
    ///
    /// # Errors
    /// The child refused the object, or did not live to answer.
    pub async fn decode(&self, object: &[u8], request: &Request) -> Result<Decoded, DecodeError> {
        let (bytes, limit) = (object.len() as u64, request.limits.object_bytes);
        if bytes > limit {
            let (step, message) = (
                Step::Object,
                WalkError::TooLarge { bytes, limit }.to_string(),
            );
            return Err(Refusal { step, message }.into());
        }
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A decoder's last words may quote what it read.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(DecodeError::Start)?;
        let exchange = exchange(&mut child, self.question(object, request)?, object, request);
        let Ok(answer) = timeout(self.limits.wall, exchange).await else {
            // It may have ended by itself in the meantime.
            let _ = child.kill().await;
            return Err(DecodeError::TimedOut(self.limits.wall));
        };
        let (status, answer) = answer.map_err(DecodeError::Start)?;
        match status.success() {
            true => understood(&answer),
            false => Err(DecodeError::Died(status)),
        }
    }

    /// All that stands before the object.
    fn question(&self, object: &[u8], request: &Request) -> Result<Vec<u8>, DecodeError> {
        let json = serde_json::to_vec(request).map_err(|_| DecodeError::Garbled)?;
        let numbers = [
            self.limits.memory,
            self.limits.processor.as_secs(),
            json.len() as u64,
        ];
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.extend(json);
        bytes.extend((object.len() as u64).to_le_bytes());
        Ok(bytes)
    }
}

/// Hands the object over, takes the answer, waits for the end.
async fn exchange(
    child: &mut Child,
    question: Vec<u8>,
    object: &[u8],
    request: &Request,
) -> io::Result<(ExitStatus, Vec<u8>)> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let put = async {
        if let Some(mut stdin) = stdin {
            // A child that ends early does not take all of it; its answer or its end tells why.
            let _ = stdin.write_all(&question).await;
            let _ = stdin.write_all(object).await;
        }
    };
    // Three channels of 4 bytes.
    let pixels = request.limits.frame_pixels.saturating_mul(12);
    let most = pixels.saturating_add(MOST_JSON);
    let take = async {
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(most).read_to_end(&mut answer).await?;
        }
        io::Result::Ok(answer)
    };
    let ((), answer) = tokio::join!(put, take);
    Ok((child.wait().await?, answer?))
}

#[derive(Serialize, Deserialize)]
enum Reply {
    Refused(Refusal),
    Read {
        tags: Box<Tags>,
        suspicions: Vec<Suspicion>,
        picture: Result<Drawn, Refusal>,
    },
}

/// All of a picture but its pixels.
#[derive(Serialize, Deserialize)]
struct Drawn {
    width: usize,
    height: usize,
    channels: usize,
    orientation: Orientation,
    turn: Turn,
    contrast: Contrast,
}

fn understood(answer: &[u8]) -> Result<Decoded, DecodeError> {
    let (length, rest) = answer.split_first_chunk().ok_or(DecodeError::Garbled)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| DecodeError::Garbled)?;
    let (json, pixels) = rest.split_at_checked(length).ok_or(DecodeError::Garbled)?;
    let reply = serde_json::from_slice(json).map_err(|_| DecodeError::Garbled)?;
    let (tags, suspicions, drawn) = match reply {
        Reply::Refused(refusal) => return Err(refusal.into()),
        Reply::Read {
            tags,
            suspicions,
            picture,
        } => (*tags, suspicions, picture),
    };
    let picture = match drawn {
        Err(refusal) => Err(refusal),
        Ok(drawn) => {
            let (words, []) = pixels.as_chunks() else {
                return Err(DecodeError::Garbled);
            };
            let pixels = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            let picture = Picture::new(drawn.width, drawn.height, drawn.channels, pixels);
            Ok(Rendered {
                picture: picture.map_err(|_| DecodeError::Garbled)?,
                orientation: drawn.orientation,
                turn: drawn.turn,
                contrast: drawn.contrast,
            })
        }
    };
    Ok(Decoded {
        tags,
        suspicions,
        picture,
    })
}

/// The child: limits itself, reads one object from standard input, answers on standard output.
///
/// The program calls it before anything else, above all before it starts threads: their stacks count as
/// memory.
pub fn decode_worker() -> ExitCode {
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let limits = WorkerLimits {
        memory: number(input)?,
        processor: Duration::from_secs(number(input)?),
        ..WorkerLimits::default()
    };
    limits.confine()?;
    let length = number(input)?;
    let request: Request = serde_json::from_slice(&exactly(input, length, MOST_JSON)?)?;
    let length = number(input)?;
    let object = exactly(input, length, request.limits.object_bytes)?;
    let (reply, pixels) = answer(object, &request);
    let json = serde_json::to_vec(&reply)?;
    output.write_all(&(json.len() as u64).to_le_bytes())?;
    output.write_all(&json)?;
    for part in pixels.chunks(1 << 16) {
        let bytes: Vec<u8> = part.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        output.write_all(&bytes)?;
    }
    output.flush()
}

fn number(input: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// As many bytes, if that is no more than allowed.
fn exactly(input: &mut impl Read, length: u64, most: u64) -> io::Result<Vec<u8>> {
    if length > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn answer(object: Vec<u8>, request: &Request) -> (Reply, Vec<f32>) {
    let set = match DataSet::read(object, &request.limits) {
        Ok(set) => set,
        Err(error) => {
            let (step, message) = (Step::Object, error.to_string());
            return (Reply::Refused(Refusal { step, message }), Vec::new());
        }
    };
    let rendered = Pixels::of(&set, &request.limits)
        .map_err(RenderError::from)
        .and_then(|pixels| pixels.render(request.frame, request.window));
    let (picture, pixels) = match rendered {
        Err(error) => (Err(error.into()), Vec::new()),
        Ok(Rendered {
            picture,
            orientation,
            turn,
            contrast,
        }) => {
            let drawn = Drawn {
                width: picture.width(),
                height: picture.height(),
                channels: picture.channels(),
                orientation,
                turn,
                contrast,
            };
            (Ok(drawn), picture.pixels().to_vec())
        }
    };
    // An object that cannot be looked at in full has shown nothing that speaks for it.
    let suspicions = match set.to_object() {
        Ok(object) => suspicions(&object),
        Err(_) => vec![Suspicion::Declared],
    };
    let reply = Reply::Read {
        tags: Box::new(Tags::of(&set)),
        suspicions,
        picture,
    };
    (reply, pixels)
}
