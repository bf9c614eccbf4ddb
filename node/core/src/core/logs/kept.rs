//! Logs that stay though nothing may be left in them: somebody goes on where he stopped in them.
//!
//! What a log at rest knows of streams outlives their bundles, so a member that comes back to it is owed all that was published
//! since, however long that was: what nobody has any more is told as gaps. A log that begins anew would begin at the heads of
//! others instead.

use std::collections::BTreeSet;

use weft_dht::store::DiskError;

use super::{Ticket, Written};
use crate::core::Core;
use crate::{Reply, RequestId, TopicId, TopicName};

/// Which logs stay, and who waits to hear that one is on disk. Callers bound both.
#[derive(Debug, Default)]
pub(super) struct Kept {
    topics: BTreeSet<TopicId>,
    waiting: Vec<(Ticket, RequestId)>,
}

impl Kept {
    pub(super) fn has(&self, topic: TopicId) -> bool {
        self.topics.contains(&topic)
    }
}

impl Core {
    /// Keeps the logs of an earlier run that it kept.
    pub(in crate::core) fn keep_logs(&mut self, names: &[TopicName]) {
        let topics = names.iter().map(|name| name.id(&self.network));
        self.logs.kept.topics.extend(topics);
    }

    /// Keeps a topic's log; answers once what there is of it is on disk.
    pub(in crate::core) fn keep_log(&mut self, request: RequestId, name: &TopicName) {
        self.logs.kept.topics.insert(name.id(&self.network));
        let ticket = self.logs.ticket();
        if self.logs.is_written(ticket) {
            return self.reply(request, Reply::LogKept(Ok(())));
        }
        self.logs.kept.waiting.push((ticket, request));
    }

    /// Nobody goes on with a topic's log any more.
    pub(in crate::core) fn free_log(&mut self, name: &TopicName) {
        self.logs.kept.topics.remove(&name.id(&self.network));
    }

    /// A write has ended: answers those that waited for it.
    pub(super) fn answer_keeping(&mut self, written: &Written) {
        let over = |(ticket, _): &mut (Ticket, RequestId)| *ticket <= written.upto;
        let answered: Vec<_> = self.logs.kept.waiting.extract_if(.., over).collect();
        for (_, request) in answered {
            self.reply(request, Reply::LogKept(written.result));
        }
    }

    /// Answers all that wait, since this node stops.
    pub(in crate::core) fn end_keeping(&mut self) {
        for (_, request) in std::mem::take(&mut self.logs.kept.waiting) {
            self.reply(request, Reply::LogKept(Err(DiskError::Failed)));
        }
    }

    /// A caller has gone.
    pub(in crate::core) fn forget_keeping(&mut self, request: RequestId) {
        let waiting = &mut self.logs.kept.waiting;
        waiting.retain(|(_, of)| *of != request);
    }
}
