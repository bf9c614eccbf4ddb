//! What waits to be sent on a link: three queues with budgets in bytes, of which none makes the core wait.

use std::collections::VecDeque;

use weft_core::Lane;
use weft_core::wire::OutFrame;

/// Bytes that wait in the lane for control: a digest of everything is 256 KiB at most, and a peer that lets four of them
/// lie reads nothing.
const CONTROL_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that wait in the lane for data: two of the largest frames, or a second at 4 MB/s.
const DATA_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that wait in the lane for repair: as many, and the core asks for no more than it has room for.
const REPAIR_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Below this a lane that was above it is told to have room again: as low as the core lets a congested link fall before it
/// pushes there again, half of what it fills the lane for repair with, and more than one gathering of the writer.
const LOW_BYTES: usize = 512 * 1024;

/// A lane was full, and the frame is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LaneFull;

/// Bytes that wait in the lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) control: usize,
    pub(crate) data: usize,
    pub(crate) repair: usize,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<OutFrame>,
    bytes: usize,
    /// Whether it has held more than the low-water mark since that was last told.
    was_high: bool,
}

impl Queue {
    fn push(&mut self, frame: OutFrame, bytes_max: usize) -> Result<(), LaneFull> {
        if self.bytes + frame.len() > bytes_max {
            return Err(LaneFull);
        }
        self.bytes += frame.len();
        self.was_high |= self.bytes > LOW_BYTES;
        self.frames.push_back(frame);
        Ok(())
    }

    /// Returns once, each time, that it has fallen below the low-water mark.
    fn take_drained(&mut self) -> bool {
        let drained = self.was_high && self.bytes <= LOW_BYTES;
        self.was_high &= !drained;
        drained
    }

    fn pop(&mut self) -> Option<OutFrame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

/// The three queues. Control goes out first, data and repair share what is left byte for byte.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    control: Queue,
    data: Queue,
    repair: Queue,
    /// Bytes that data is ahead of repair since both last had something; negative where it is behind.
    data_ahead: i64,
}

impl Lanes {
    pub(super) fn push(&mut self, lane: Lane, frame: OutFrame) -> Result<(), LaneFull> {
        match lane {
            Lane::Control => self.control.push(frame, CONTROL_BYTES_MAX),
            Lane::Data => self.data.push(frame, DATA_BYTES_MAX),
            Lane::Repair => self.repair.push(frame, REPAIR_BYTES_MAX),
        }
    }

    /// Takes frames in the order in which they go out, until about `bytes_max` bytes; at least one if any waits.
    pub(super) fn take(&mut self, out: &mut Vec<OutFrame>, bytes_max: usize) {
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(frame) = self.pop() else { return };
            bytes += frame.len();
            out.push(frame);
        }
    }

    /// Returns once, each time, that data or repair has fallen below the low-water mark after it was above.
    pub(super) fn take_drained(&mut self) -> bool {
        let data = self.data.take_drained();
        self.repair.take_drained() || data
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            control: self.control.bytes,
            data: self.data.bytes,
            repair: self.repair.bytes,
        }
    }

    fn pop(&mut self) -> Option<OutFrame> {
        if let Some(frame) = self.control.pop() {
            return Some(frame);
        }
        if self.data.frames.is_empty() || self.repair.frames.is_empty() {
            // Nobody waits for the other: what was sent meanwhile is no debt.
            self.data_ahead = 0;
            return self.data.pop().or_else(|| self.repair.pop());
        }
        if self.data_ahead <= 0 {
            let frame = self.data.pop()?;
            self.data_ahead += frame.len() as i64;
            Some(frame)
        } else {
            let frame = self.repair.pop()?;
            self.data_ahead -= frame.len() as i64;
            Some(frame)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(tag: u8, bytes: usize) -> OutFrame {
        OutFrame {
            head: Bytes::from(vec![tag; bytes]),
            tail: Bytes::new(),
        }
    }

    fn tags(lanes: &mut Lanes) -> Vec<u8> {
        let mut out = Vec::new();
        lanes.take(&mut out, usize::MAX);
        out.iter().map(|frame| frame.head[0]).collect()
    }

    #[test]
    fn control_goes_first_and_the_others_share_by_bytes() {
        let mut lanes = Lanes::default();
        for _ in 0..2 {
            lanes.push(Lane::Data, frame(b'd', 200)).unwrap();
        }
        for _ in 0..4 {
            lanes.push(Lane::Repair, frame(b'r', 100)).unwrap();
        }
        lanes.push(Lane::Control, frame(b'c', 10)).unwrap();
        assert_eq!(tags(&mut lanes), *b"cdrrdrr");
        assert_eq!(lanes.waiting(), Waiting::default());
    }

    #[test]
    fn a_full_lane_refuses_and_leaves_the_others_alone() {
        let mut lanes = Lanes::default();
        let big = frame(b'd', 1024 * 1024);
        for _ in 0..4 {
            lanes.push(Lane::Data, big.clone()).unwrap();
        }
        assert_eq!(lanes.push(Lane::Data, frame(b'd', 1)), Err(LaneFull));
        lanes.push(Lane::Repair, frame(b'r', 1)).unwrap();
        lanes.push(Lane::Control, frame(b'c', 1)).unwrap();
        assert_eq!(lanes.waiting().data, DATA_BYTES_MAX);
    }

    #[test]
    fn a_lane_that_drains_says_so_once_each_time() {
        for lane in [Lane::Data, Lane::Repair] {
            let mut lanes = Lanes::default();
            let mut out = Vec::new();
            lanes.push(lane, frame(b'x', LOW_BYTES)).unwrap();
            assert!(!lanes.take_drained(), "it was never above");
            for _ in 0..2 {
                lanes.push(lane, frame(b'x', LOW_BYTES)).unwrap();
                assert!(!lanes.take_drained());
                lanes.take(&mut out, 1);
                assert!(lanes.take_drained() && !lanes.take_drained());
            }
        }
    }

    #[test]
    fn a_take_is_bounded_but_never_empty() {
        let mut lanes = Lanes::default();
        for _ in 0..3 {
            lanes.push(Lane::Data, frame(b'd', 1_000)).unwrap();
        }
        let mut out = Vec::new();
        lanes.take(&mut out, 1);
        assert_eq!(out.len(), 1);
        lanes.take(&mut out, 1_001);
        assert_eq!(out.len(), 3);
    }
}
