//! The kad protocol's streams, for peers that have no link here: any libp2p peer may ask on them, and is asked on them.
//!
//! On a stream queries and answers take turns; each is a varint of its length, at most 16 KiB, and a message. The asking
//! side may put several queries on one stream, as libp2p's implementations allow, or close its half after one.
//!
//! **Invariant:** a stream has one query under way, and all streams together are bounded, so the core is asked no faster
//! than it answers. Signatures are checked here, never on the core's task.

mod asks;
mod handler;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use weft_core::wire::DecodeError;
use weft_core::wire::kad::{PACKET_BYTES_MAX, PacketDecoder};
use weft_core::{Address, KadPeer};
use weft_dht::Message;
use weft_identity::PeerId;

use super::LinkEvent;

pub(crate) use asks::Ask;
pub(super) use asks::{Asks, Begin};
pub(super) use handler::{Handler, HandlerEvent, OpenStream};

/// Streams that one connection may have opened here: what libp2p-kad allows of its own.
pub(super) const INBOUND_PER_CONNECTION_MAX: usize = 32;
/// Streams that all may have opened here: each may hold a packet, together 4 MiB.
pub(super) const INBOUND_MAX: usize = 256;
/// How long a stream may stay without a query: an open stream keeps its connection, and its place.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How long a peer may take over one packet that it has begun to send, or that is being sent to it.
const PACKET_MAX: Duration = Duration::from_secs(3);
/// How long an answer is waited for: as long as the structured layer does.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Returns the protocol's name in a network.
pub(super) fn protocol(network: &str) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/weft/{network}/kad/1.0.0"))
        .expect("it begins with a slash")
}

/// A query that came.
#[derive(Debug)]
pub(crate) struct Query {
    /// Who asks.
    pub(crate) peer: PeerId,
    /// Where the peer says that it listens; empty unless it serves.
    pub(crate) addresses: Vec<Address>,
    /// What it asks.
    pub(crate) message: Message<KadPeer>,
    /// Where the answer goes; none where there is none to be sent.
    pub(crate) reply: oneshot::Sender<Option<Bytes>>,
}

/// Why an exchange on a stream failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The peer has closed or broken the stream, or is too slow.
    #[error("the stream is over: {0}")]
    Gone(io::Error),
    /// It sent what no honest peer sends.
    #[error("{0}")]
    Refused(DecodeError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<tokio::time::error::Elapsed> for Failure {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Gone(io::ErrorKind::TimedOut.into())
    }
}

/// Answers the queries of one stream until the peer has no more. Dropping the stream resets it.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    peer: PeerId,
    mut decoder: PacketDecoder,
    serves_at: Arc<OnceLock<Vec<Address>>>,
    events: mpsc::Sender<LinkEvent>,
) {
    loop {
        let packet = match timeout(IDLE_MAX, read_packet(&mut stream)).await {
            Ok(Ok(Some(packet))) => packet,
            Ok(Ok(None)) => break,
            Ok(Err(failure)) => return tell_refusal(peer, failure, &events).await,
            Err(_) => return,
        };
        let message = match decoder.query(&packet, peer) {
            Ok(message) => message,
            Err(error) => return tell_refusal(peer, Failure::Refused(error), &events).await,
        };
        let (reply, answer) = oneshot::channel();
        let query = Query {
            peer,
            addresses: serves_at.get().cloned().unwrap_or_default(),
            message,
            reply,
        };
        if events.send(LinkEvent::KadQuery(query)).await.is_err() {
            return;
        }
        let Ok(answer) = answer.await else { return };
        if let Some(packet) = answer
            && !matches!(
                timeout(PACKET_MAX, write(&mut stream, &packet)).await,
                Ok(Ok(()))
            )
        {
            return;
        }
    }
    // The peer has closed its half in order, and so does this side.
    let _ = timeout(PACKET_MAX, stream.close()).await;
}

async fn tell_refusal(peer: PeerId, failure: Failure, events: &mpsc::Sender<LinkEvent>) {
    if let Failure::Refused(error) = failure {
        // The core's task ends after this one or does not care any more.
        let _ = events.send(LinkEvent::KadRefused { peer, error }).await;
    }
}

/// Asks one question on a stream; returns the answer, or none where none comes.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    packet: &Bytes,
    is_answered: bool,
    decoder: &mut PacketDecoder,
) -> Result<Option<Message<KadPeer>>, Failure> {
    timeout(PACKET_MAX, write(stream, packet)).await??;
    if !is_answered {
        timeout(PACKET_MAX, stream.close()).await??;
        return Ok(None);
    }
    let answer = timeout(ANSWER_MAX, read_packet(stream)).await??;
    let answer = answer.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let message = decoder.answer(&answer).map_err(Failure::Refused)?;
    Ok(Some(message))
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, packet: &Bytes) -> io::Result<()> {
    stream.write_all(packet).await?;
    stream.flush().await
}

/// Reads a packet; none where the peer has closed its half instead.
async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Vec<u8>>, Failure> {
    let mut len = 0usize;
    // 16 KiB is 2^14: three bytes of seven bits hold every length that is allowed.
    for at in 0..3 {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return match at {
                0 => Ok(None),
                _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            };
        }
        len |= usize::from(byte[0] & 0x7f) << (7 * at);
        if byte[0] & 0x80 == 0 {
            if len > PACKET_BYTES_MAX {
                break;
            }
            let mut packet = vec![0; len];
            timeout(PACKET_MAX, stream.read_exact(&mut packet)).await??;
            return Ok(Some(packet));
        }
    }
    let why = "a packet of over 16 KiB";
    Err(Failure::Refused(DecodeError::Malformed(why)))
}
