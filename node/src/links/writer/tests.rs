//! The writer on a stream in memory, whose other end reads as each test likes.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use weft_core::Lane;
use weft_identity::PeerId;

use super::super::link::LinkId;
use super::*;

/// No test takes a tenth of it; one that hangs fails here.
const DEADLINE: Duration = Duration::from_secs(20);
/// Frames of these tests; each byte of a frame names its lane.
const FRAME_BYTES: usize = 10_000;

/// A stream that counts its flushes.
struct Counted {
    stream: Compat<DuplexStream>,
    flushes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

struct Fixture {
    link: Arc<Link>,
    drained: Arc<Notify>,
    flushes: Arc<AtomicUsize>,
    peer: DuplexStream,
    stream: Option<Counted>,
}

impl Fixture {
    /// A link whose stream takes `room` bytes before the peer reads.
    fn new(room: usize) -> Self {
        let drained = Arc::new(Notify::new());
        let flushes = Arc::<AtomicUsize>::default();
        let (stream, peer) = tokio::io::duplex(room);
        let stream = Counted {
            stream: stream.compat(),
            flushes: flushes.clone(),
        };
        let peer_id = PeerId::from_bytes([1; 32]);
        Self {
            link: Arc::new(Link::new(LinkId(1), peer_id, drained.clone())),
            drained,
            flushes,
            peer,
            stream: Some(stream),
        }
    }

    fn start(&mut self, stall_timeout: Duration) -> JoinHandle<()> {
        let stream = self.stream.take().unwrap();
        tokio::spawn(run(stream, self.link.clone(), stall_timeout))
    }

    fn queue(&self, lane: Lane, count: usize) {
        let tag = match lane {
            Lane::Control => b'c',
            Lane::Data => b'd',
            Lane::Repair => b'r',
        };
        for _ in 0..count {
            let frame = OutFrame {
                head: Bytes::copy_from_slice(&[tag; 10]),
                tail: Bytes::from(vec![tag; FRAME_BYTES - 10]),
            };
            self.link.queue(lane, frame).unwrap();
        }
    }

    async fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        timeout(DEADLINE, self.peer.read_exact(&mut read))
            .await
            .expect("the writer writes")
            .unwrap();
        read
    }

    /// Reads whole frames and returns their lanes.
    async fn read_frames(&mut self, count: usize) -> String {
        let read = self.read(count * FRAME_BYTES).await;
        read.chunks(FRAME_BYTES)
            .map(|frame| {
                assert!(frame.iter().all(|byte| *byte == frame[0]), "a torn frame");
                char::from(frame[0])
            })
            .collect()
    }
}

async fn ends(writer: JoinHandle<()>) {
    timeout(DEADLINE, writer).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn control_leaves_first_and_data_and_repair_share_what_is_left() {
    let mut fixture = Fixture::new(1 << 20);
    fixture.queue(Lane::Repair, 20);
    fixture.queue(Lane::Data, 20);
    fixture.queue(Lane::Control, 2);
    assert_eq!(fixture.link.waiting().data, 20 * FRAME_BYTES);
    let _writer = fixture.start(DEADLINE);
    fixture.link.wake();
    let lanes = fixture.read_frames(42).await;
    assert_eq!(lanes, format!("cc{}", "dr".repeat(20)));
    assert_eq!(fixture.link.waiting(), Default::default());
}

#[tokio::test]
async fn what_waits_leaves_in_one_flush_a_wake() {
    let mut fixture = Fixture::new(1 << 20);
    let _writer = fixture.start(DEADLINE);
    for wake in 1..=3 {
        fixture.queue(Lane::Data, 50);
        fixture.link.wake();
        fixture.read_frames(50).await;
        timeout(DEADLINE, async {
            while fixture.flushes.load(Ordering::Relaxed) < wake {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it flushes");
        assert_eq!(fixture.flushes.load(Ordering::Relaxed), wake);
    }
}

#[tokio::test]
async fn control_overtakes_a_backlog_after_one_gathering_at_most() {
    let room = 64 * 1024;
    let mut fixture = Fixture::new(room);
    fixture.queue(Lane::Data, 300);
    let _writer = fixture.start(DEADLINE);
    fixture.link.wake();
    fixture.read_frames(10).await;
    fixture.queue(Lane::Control, 1);
    fixture.link.wake();
    let lanes = fixture.read_frames(291).await;
    let ahead = lanes.find('c').unwrap() * FRAME_BYTES;
    assert!(
        ahead <= room + GATHER_BYTES_MAX + 2 * FRAME_BYTES,
        "{ahead} bytes went first"
    );
}

#[tokio::test]
async fn a_lane_that_has_room_again_is_told() {
    let mut fixture = Fixture::new(FRAME_BYTES);
    let _writer = fixture.start(DEADLINE);
    for lane in [Lane::Data, Lane::Repair] {
        fixture.queue(lane, 200);
        fixture.link.wake();
        fixture.read_frames(100).await;
        let told = timeout(Duration::ZERO, fixture.drained.notified()).await;
        assert!(told.is_err(), "a megabyte still waits");
        fixture.read_frames(100).await;
        let told = timeout(DEADLINE, fixture.drained.notified()).await;
        assert!(told.is_ok(), "{lane:?}");
    }
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_dead_after_the_limit() {
    let mut fixture = Fixture::new(1_000);
    let begun = tokio::time::Instant::now();
    let limit = Duration::from_millis(200);
    let writer = fixture.start(limit);
    fixture.queue(Lane::Data, 1);
    fixture.link.wake();
    timeout(DEADLINE, fixture.link.ended()).await.unwrap();
    assert!(begun.elapsed() >= limit);
    let reason = DownReason::Broken("the peer has taken nothing for 200ms".to_owned());
    assert_eq!(fixture.link.reason(), reason);
    ends(writer).await;
}

#[tokio::test]
async fn a_peer_that_takes_little_is_slow_and_not_dead() {
    let mut fixture = Fixture::new(100);
    let limit = Duration::from_secs(1);
    let begun = tokio::time::Instant::now();
    let _writer = fixture.start(limit);
    fixture.queue(Lane::Data, 1);
    fixture.link.wake();
    let mut pace = tokio::time::interval(limit / 20);
    while begun.elapsed() < limit + limit / 2 {
        pace.tick().await;
        fixture.read(100).await;
    }
    assert!(!fixture.link.is_ended());
}

#[tokio::test]
async fn a_peer_that_lets_go_of_the_stream_is_noticed_at_rest_and_in_the_middle_of_a_write() {
    for waiting in [0, 10] {
        let mut fixture = Fixture::new(1_000);
        let writer = fixture.start(DEADLINE);
        fixture.queue(Lane::Data, waiting);
        fixture.link.wake();
        let Fixture { link, peer, .. } = fixture;
        drop(peer);
        timeout(DEADLINE, link.ended()).await.unwrap();
        assert!(matches!(link.reason(), DownReason::Broken(_)));
        ends(writer).await;
    }
}

#[tokio::test]
async fn an_ordered_end_writes_what_waits_and_goodbye_and_lasts_until_the_peer_has_it() {
    let mut fixture = Fixture::new(1_000);
    let writer = fixture.start(DEADLINE);
    fixture.queue(Lane::Data, 3);
    fixture.link.close(DEADLINE);
    // The peer's own goodbye may come first, and it cuts nothing off.
    fixture.link.end(DownReason::Closed);
    assert_eq!(fixture.read_frames(3).await, "ddd");
    assert_eq!(fixture.read(1).await, GOODBYE);
    assert_eq!(fixture.peer.read(&mut [0; 1]).await.unwrap(), 0);
    let written = timeout(Duration::ZERO, fixture.link.written()).await;
    assert!(written.is_err(), "the peer still holds the stream");
    let Fixture { link, peer, .. } = fixture;
    drop(peer);
    ends(writer).await;
    assert_eq!(link.reason(), DownReason::Ordered);
    timeout(DEADLINE, link.written()).await.unwrap();
}

#[tokio::test]
async fn an_ordered_end_does_not_wait_for_a_peer_that_reads_nothing() {
    let mut fixture = Fixture::new(1_000);
    let begun = tokio::time::Instant::now();
    let writer = fixture.start(DEADLINE);
    fixture.queue(Lane::Data, 3);
    let within = Duration::from_millis(300);
    fixture.link.close(within);
    ends(writer).await;
    assert!(begun.elapsed() >= within);
    assert_eq!(fixture.link.reason(), DownReason::Ordered);
}
