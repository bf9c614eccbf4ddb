//! Orders that wait to be drained.

use std::collections::VecDeque;

/// A queue that keeps no room while it is empty: it is filled and drained at each event, in between a member of a quiet swarm
/// is nothing but its state, and the room that one has just given back another takes while it is in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Outbox<T>(VecDeque<T>);

impl<T> Outbox<T> {
    pub(crate) const fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(crate) fn push_back(&mut self, order: T) {
        self.0.push_back(order);
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let next = self.0.pop_front();
        if self.0.is_empty() && self.0.capacity() > 0 {
            self.0 = VecDeque::new();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_keeps_no_room() {
        let mut outbox = Outbox::new();
        outbox.push_back('a');
        outbox.push_back('b');
        assert_eq!(outbox.pop_front(), Some('a'));
        assert_eq!(outbox.pop_front(), Some('b'));
        assert_eq!((outbox.0.capacity(), outbox.pop_front()), (0, None));
    }
}
