//! What arrives at a node, as the watch hears of it.

use weft_core::wire;
use weft_overlay::plumtree;

use super::{Keys, Member, topic};
use crate::machine::{Order, Place};

impl Member {
    /// Tells of the copies of our topic's messages that a frame brings.
    pub(super) fn note_arrival(&mut self, frame: &wire::Frame, bytes: usize) {
        let of_topic = topic().id(Keys::NETWORK);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let message = match frame {
            wire::Frame::Broadcast { topic, message } if *topic == of_topic => message,
            wire::Frame::Membership { topic, .. } if *topic == of_topic => {
                return self.orders.push_back(Order::OfTopic { bytes });
            }
            _ => return,
        };
        let (header, payload) = match message {
            plumtree::Message::Bundle { bundle, .. } => {
                let bytes: usize = bundle.messages().map(|(_, data)| data.len()).sum();
                (weft_overlay::Bundle::header(bundle), bytes)
            }
            plumtree::Message::Duplicate { header, .. } => (*header, 0),
            _ => return self.orders.push_back(Order::OfTopic { bytes }),
        };
        let Some(publisher) = self.keys.node(header.stream.publisher) else {
            return;
        };
        for seq in header.first..=header.last {
            let place = Place {
                publisher,
                epoch: header.stream.epoch,
                seq,
            };
            let payload = if seq == header.first { payload } else { 0 };
            self.orders.push_back(Order::Arrived {
                place,
                payload: u32::try_from(payload).unwrap_or(u32::MAX),
            });
        }
    }
}
