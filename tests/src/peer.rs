//! A peer written by hand: libp2p's transport, and on it bytes of the test's own choice.
//!
//! It runs no libp2p swarm. Of the streams on a connection it accepts and opens those of the link, and answers identify where
//! the test gives it something to say; everything else it refuses.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::poll_fn;
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::{Endpoint, upgrade};
use libp2p::{Multiaddr, Transport, identity, noise, tcp, yamux};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;
use weft_core::wire::{Decoder, Frame, OutFrame, encode_pong, parse_prefix};
use weft_core::{Address, PeerContact, Roles};
use weft_identity::{Keypair, PeerId};
use weft_overlay::UnixMicros;

/// How long a step of a handshake may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one write may wait for room: a daemon that throttles makes its peer wait.
const WRITE_PATIENCE: Duration = Duration::from_secs(3);
const HEADER: &[u8] = b"/multistream/1.0.0\n";
const IDENTIFY: &[u8] = b"/ipfs/id/1.0.0\n";

/// How a peer behaves beside what the test sends.
#[derive(Clone, Debug)]
pub struct Manners {
    /// What identify says that it speaks; it refuses to be identified otherwise.
    pub speaks: Option<String>,
    /// Whether it reads what comes, and answers heartbeats.
    pub reads: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            speaks: None,
            reads: true,
        }
    }
}

/// A key of a test's own, by number.
pub fn key(number: u64) -> Keypair {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    Keypair::from_seed(&seed)
}

/// Now, by the wall clock.
pub fn unix() -> UnixMicros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixMicros(since.expect("after 1970").as_micros() as u64)
}

/// A descriptor of a key's owner that holds for the next hour.
pub fn contact(key: &Keypair, addresses: &[Address]) -> PeerContact {
    let now = unix();
    PeerContact::issue(
        key,
        addresses,
        now,
        now + Duration::from_secs(3_600),
        Roles::default(),
    )
}

/// The writing end of a link.
type Writer = Arc<Mutex<WriteHalf<SubstreamBox>>>;

/// A connection without a link yet.
pub struct Connection {
    opens: mpsc::Sender<oneshot::Sender<SubstreamBox>>,
    inbound: mpsc::Receiver<SubstreamBox>,
    ended: watch::Receiver<bool>,
}

impl Connection {
    /// Connects to a daemon and answers its streams as `manners` say.
    pub async fn open(
        key: &Keypair,
        daemon: &Multiaddr,
        network: &str,
        manners: &Manners,
    ) -> Result<Self, String> {
        let mut seed = key.to_seed();
        let key = identity::Keypair::ed25519_from_bytes(&mut seed).expect("a seed has 32 bytes");
        let mut transport = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
            .upgrade(upgrade::Version::V1)
            .authenticate(noise::Config::new(&key).expect("an ed25519 key is one for Noise"))
            .multiplex(yamux::Config::default())
            .timeout(PATIENCE)
            .map(|(_, muxer), _| StreamMuxerBox::new(muxer))
            .boxed();
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let muxer = transport
            .dial(daemon.clone(), options)
            .map_err(|error| format!("{error:?}"))?
            .await
            .map_err(|error| format!("{error:?}"))?;
        let (opens, opens_taken) = mpsc::channel(4);
        let (inbound_told, inbound) = mpsc::channel(4);
        let (ended_told, ended) = watch::channel(false);
        let answers = Answers {
            link: link_protocol(network),
            identify: manners.speaks.as_ref().map(|speaks| identify(&key, speaks)),
            inbound: inbound_told,
        };
        tokio::spawn(async move {
            drive(muxer, opens_taken, answers).await;
            ended_told.send_replace(true);
        });
        Ok(Self {
            opens,
            inbound,
            ended,
        })
    }

    /// Opens a stream for a protocol.
    pub async fn stream(&self, protocol: &[u8]) -> Result<SubstreamBox, String> {
        let (tell, told) = oneshot::channel();
        let gone = |_| "the connection is gone".to_owned();
        self.opens.send(tell).await.map_err(|_| gone(()))?;
        let mut stream = told.await.map_err(|_| gone(()))?;
        write_line(&mut stream, HEADER).await?;
        write_line(&mut stream, protocol).await?;
        let header = read_line(&mut stream).await?;
        let answer = read_line(&mut stream).await?;
        if header != HEADER || answer != protocol {
            return Err(format!("refused: {}", String::from_utf8_lossy(&answer)));
        }
        Ok(stream)
    }

    /// Waits until the daemon has closed the connection.
    pub async fn wait_closed(&mut self, at_most: Duration) -> bool {
        matches!(
            timeout(at_most, self.ended.wait_for(|ended| *ended)).await,
            Ok(Ok(_))
        )
    }
}

/// What keeps a peer's connection open. A process that closes a socket takes back what the other end has not read, so the
/// last frames of an attack count only if the connection outlives it.
pub type Lifeline = mpsc::Sender<oneshot::Sender<SubstreamBox>>;

/// A peer with a link to a daemon.
pub struct Peer {
    /// Its key.
    pub key: Keypair,
    writer: Writer,
    frames: mpsc::UnboundedReceiver<Frame>,
    ended: watch::Receiver<bool>,
    /// The connection lives as long as the peer, or longer.
    pub lifeline: Lifeline,
}

impl Peer {
    /// Links to a daemon.
    pub async fn link(
        key: Keypair,
        daemon: &(Multiaddr, PeerId),
        network: &str,
        manners: &Manners,
    ) -> Result<Self, String> {
        let (address, peer) = daemon;
        let mut connection = Connection::open(&key, address, network, manners).await?;
        let protocol = link_protocol(network);
        // Of two peers the one with the smaller id opens its stream first.
        let (inbound, outbound) = if key.peer_id() < *peer {
            let outbound = connection.stream(&protocol).await?;
            (next_inbound(&mut connection).await?, outbound)
        } else {
            let inbound = next_inbound(&mut connection).await?;
            (inbound, connection.stream(&protocol).await?)
        };
        // The halves that stay behind keep their streams open; nobody writes to the one or reads from the other.
        let (reader, other_writer) = inbound.split();
        let (other_reader, writer) = outbound.split();
        let writer = Arc::new(Mutex::new(writer));
        let (frames_told, frames) = mpsc::unbounded_channel();
        let (ended_told, ended) = watch::channel(false);
        let mut closed = connection.ended;
        let reading = read(
            reader,
            Decoder::new(*peer, Arc::default()),
            writer.clone(),
            frames_told,
        );
        let reads = manners.reads;
        tokio::spawn(async move {
            let _kept = (other_reader, other_writer);
            tokio::select! {
                () = reading, if reads => {}
                _ = closed.wait_for(|closed| *closed) => {}
            }
            ended_told.send_replace(true);
        });
        Ok(Self {
            key,
            writer,
            frames,
            ended,
            lifeline: connection.opens,
        })
    }

    /// Sends bytes as they are; false where the daemon doesn't take them, because it throttles or has gone.
    pub async fn send(&self, bytes: &[u8]) -> bool {
        let mut writer = self.writer.lock().await;
        let write = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        matches!(timeout(WRITE_PATIENCE, write).await, Ok(Ok(())))
    }

    /// Sends a frame that the core's own encoder has laid out.
    pub async fn frame(&self, frame: &OutFrame) -> bool {
        self.send(&[&frame.head[..], &frame.tail[..]].concat())
            .await
    }

    /// Whether the daemon has ended the link.
    pub fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until the daemon has ended the link.
    pub async fn wait_ended(&mut self, at_most: Duration) -> bool {
        matches!(
            timeout(at_most, self.ended.wait_for(|ended| *ended)).await,
            Ok(Ok(_))
        )
    }

    /// Waits for a frame that the daemon sends.
    pub async fn wait_frame<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&Frame) -> Option<T>,
    ) -> T {
        let found = timeout(PATIENCE, async {
            loop {
                match self.frames.recv().await {
                    Some(frame) => {
                        if let Some(found) = pick(&frame) {
                            return Some(found);
                        }
                    }
                    None => return None,
                }
            }
        });
        match found.await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("the link ended before {what} came"),
            Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
        }
    }

    /// Forgets what has come so far.
    pub fn forget_frames(&mut self) {
        while self.frames.try_recv().is_ok() {}
    }
}

async fn next_inbound(connection: &mut Connection) -> Result<SubstreamBox, String> {
    match timeout(PATIENCE, connection.inbound.recv()).await {
        Ok(Some(stream)) => Ok(stream),
        Ok(None) => Err("the daemon closed the connection".to_owned()),
        Err(_) => Err("the daemon opens no stream".to_owned()),
    }
}

/// Reads frames, answers heartbeats and tells the rest.
async fn read(
    mut reader: ReadHalf<SubstreamBox>,
    mut decoder: Decoder,
    writer: Writer,
    frames: mpsc::UnboundedSender<Frame>,
) {
    let mut held = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        held.extend_from_slice(&buffer[..count]);
        let mut at = 0;
        while let Ok(Some((head, len))) = parse_prefix(&held[at..]) {
            if len == 0 || held.len() < at + head + len {
                break;
            }
            let frame = decoder
                .decode(&held[at + head..at + head + len])
                .expect("a daemon sends frames");
            at += head + len;
            if let Frame::Ping { nonce } = frame {
                // Whoever floods may find no room for it, and needs none: it is heard.
                if let Ok(mut writer) = writer.try_lock() {
                    let pong = encode_pong(nonce);
                    let write = async {
                        writer.write_all(&pong.head).await?;
                        writer.flush().await
                    };
                    let _ = timeout(WRITE_PATIENCE, write).await;
                }
                continue;
            }
            let _ = frames.send(frame);
        }
        held.drain(..at);
    }
}

struct Answers {
    link: Vec<u8>,
    identify: Option<Bytes>,
    inbound: mpsc::Sender<SubstreamBox>,
}

/// Keeps a connection going until the peer is dropped or the daemon closes it.
async fn drive(
    mut muxer: StreamMuxerBox,
    mut opens: mpsc::Receiver<oneshot::Sender<SubstreamBox>>,
    answers: Answers,
) {
    let mut waiting: Option<oneshot::Sender<SubstreamBox>> = None;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(Err(_)) = muxer.poll_unpin(cx) {
                return Poll::Ready(());
            }
            if waiting.is_none() {
                match opens.poll_recv(cx) {
                    Poll::Ready(Some(tell)) => waiting = Some(tell),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            if waiting.is_some() {
                match muxer.poll_outbound_unpin(cx) {
                    Poll::Ready(Ok(stream)) => {
                        if let Some(tell) = waiting.take() {
                            let _ = tell.send(stream);
                        }
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            match muxer.poll_inbound_unpin(cx) {
                Poll::Ready(Ok(stream)) => {
                    tokio::spawn(answer(
                        stream,
                        answers.link.clone(),
                        answers.identify.clone(),
                        answers.inbound.clone(),
                    ));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// Answers a stream that the daemon opens.
async fn answer(
    mut stream: SubstreamBox,
    link: Vec<u8>,
    identify: Option<Bytes>,
    inbound: mpsc::Sender<SubstreamBox>,
) -> Result<(), String> {
    read_line(&mut stream).await?;
    write_line(&mut stream, HEADER).await?;
    loop {
        let wanted = read_line(&mut stream).await?;
        if wanted == link {
            write_line(&mut stream, &wanted).await?;
            let _ = inbound.send(stream).await;
            return Ok(());
        }
        match &identify {
            Some(message) if wanted == IDENTIFY => {
                write_line(&mut stream, &wanted).await?;
                write_line(&mut stream, message).await?;
                return stream.close().await.map_err(|error| error.to_string());
            }
            _ => write_line(&mut stream, b"na\n").await?,
        }
    }
}

/// What identify says of a peer.
fn identify(key: &identity::Keypair, speaks: &str) -> Bytes {
    let key = key.public().encode_protobuf();
    let mut message = Vec::new();
    for (number, value) in [(1, &key[..]), (5, speaks.as_bytes()), (6, b"hostile/1")] {
        message.extend(crate::proto::field(number, value));
    }
    message.into()
}

/// The name of a network's link protocol, as multistream-select has it.
pub fn link_protocol(network: &str) -> Vec<u8> {
    format!("/weft/{network}/link/1\n").into_bytes()
}

/// Writes something with its length before it.
async fn write_line(stream: &mut SubstreamBox, line: &[u8]) -> Result<(), String> {
    let written = async {
        stream.write_all(&crate::proto::framed(line)).await?;
        stream.flush().await
    };
    timeout(PATIENCE, written)
        .await
        .map_err(|_| "a handshake took too long".to_owned())?
        .map_err(|error| error.to_string())
}

/// Reads something that has its length, below 128, before it.
async fn read_line(stream: &mut SubstreamBox) -> Result<Vec<u8>, String> {
    let read = async {
        let mut len = [0];
        stream.read_exact(&mut len).await?;
        let mut line = vec![0; len[0].into()];
        stream.read_exact(&mut line).await?;
        Ok::<_, std::io::Error>(line)
    };
    timeout(PATIENCE, read)
        .await
        .map_err(|_| "a handshake took too long".to_owned())?
        .map_err(|error| error.to_string())
}
