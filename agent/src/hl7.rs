//! A report as HL7 v2.5.1 ORU^R01, and its delivery over MLLP.
//!
//! For hospitals whose systems take results by HL7 v2. One connection for each message: it is framed as MLLP
//! asks (`VT` message `FS` `CR`), sent, and its acknowledgement awaited. `AA` takes it, `AE` and `AR` refuse it;
//! whoever queues messages sends only those again whose [`DeliveryError::is_lasting`] is false.
//!
//! MLLP has neither encryption nor names: give [`deliver`] a stream with TLS where the network is not
//! trusted. Text is UTF-8, and MSH-18 says so.

mod message;

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, ToSocketAddrs},
    time::timeout,
};

pub use self::message::{Application, Parties};
use crate::fhir::report::Report;

/// Begins a message.
const START: u8 = 0x0B;
/// Ends a message, before a carriage return.
const END: u8 = 0x1C;
/// Longest acknowledgement that is read, in bytes.
const ACK_LIMIT: u64 = 64 << 10;

/// Why a message was not delivered. Holds nothing of what it says.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// No answer in time.
    #[error("no acknowledgement within {0:?}")]
    Late(Duration),
    /// What came back is no acknowledgement of this message.
    #[error("the answer is no acknowledgement: {0}")]
    Unsound(&'static str),
    /// The receiver could not take it now, or not as it is (`AE`).
    #[error("the receiver reports an error (AE)")]
    Failed,
    /// The receiver does not take such messages (`AR`).
    #[error("the receiver rejects the message (AR)")]
    Rejected,
}

impl DeliveryError {
    /// Whether sending it again would end the same way.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Rejected)
    }
}

/// Connects, sends a report and waits until it is taken. `patience` bounds all of it together.
///
/// # Errors
/// No connection, no acknowledgement in time, or a refusal.
pub async fn send(
    address: impl ToSocketAddrs,
    report: &Report,
    parties: &Parties,
    patience: Duration,
) -> Result<(), DeliveryError> {
    let sent = async {
        let mut stream = TcpStream::connect(address).await?;
        exchange(&mut stream, report, parties).await
    };
    timeout(patience, sent)
        .await
        .unwrap_or(Err(DeliveryError::Late(patience)))
}

/// Sends a report over a connection that is there, as one with TLS, and waits until it is taken.
///
/// # Errors
/// No acknowledgement in time, or a refusal.
pub async fn deliver(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    report: &Report,
    parties: &Parties,
    patience: Duration,
) -> Result<(), DeliveryError> {
    timeout(patience, exchange(stream, report, parties))
        .await
        .unwrap_or(Err(DeliveryError::Late(patience)))
}

async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    report: &Report,
    parties: &Parties,
) -> Result<(), DeliveryError> {
    let message = report.to_hl7(parties);
    let mut frame = vec![START];
    frame.extend_from_slice(message.as_bytes());
    frame.extend_from_slice(&[END, b'\r']);
    stream.write_all(&frame).await?;
    stream.flush().await?;
    judge(&answer(stream).await?, &report.control_id())
}

/// The message that comes back, without its frame.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, DeliveryError> {
    let mut stream = stream.take(ACK_LIMIT);
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Err(DeliveryError::Unsound("its frame does not end"));
        }
        let piece = piece.get(..read).unwrap_or_default();
        let end = piece.iter().position(|&byte| byte == END);
        bytes.extend_from_slice(piece.get(..end.unwrap_or(read)).unwrap_or_default());
        if end.is_some() {
            let start = bytes.iter().position(|&byte| byte == START);
            let message = start.and_then(|start| bytes.get(start + 1..));
            return message
                .map(<[u8]>::to_vec)
                .ok_or(DeliveryError::Unsound("its frame does not begin"));
        }
    }
}

/// Reads an acknowledgement of the message with this control id.
fn judge(answer: &[u8], control_id: &str) -> Result<(), DeliveryError> {
    let text = String::from_utf8_lossy(answer);
    let mut segments = text.split(['\r', '\n']);
    let separator = segments
        .next()
        .and_then(|header| header.strip_prefix("MSH"))
        .and_then(|rest| rest.chars().next())
        .ok_or(DeliveryError::Unsound("it has no header"))?;
    let acknowledgement = segments
        .find_map(|segment| segment.strip_prefix("MSA")?.strip_prefix(separator))
        .ok_or(DeliveryError::Unsound(
            "it does not say whether it was taken",
        ))?;
    let mut fields = acknowledgement.split(separator);
    let (code, of) = (fields.next(), fields.next());
    if of != Some(control_id) {
        return Err(DeliveryError::Unsound("it is of another message"));
    }
    match code {
        Some("AA" | "CA") => Ok(()),
        Some("AE" | "CE") => Err(DeliveryError::Failed),
        Some("AR" | "CR") => Err(DeliveryError::Rejected),
        _ => Err(DeliveryError::Unsound("its code is none")),
    }
}

#[cfg(test)]
mod tests;
