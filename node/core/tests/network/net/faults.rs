//! What is done to nodes and links: crashes, stops, restarts, hangs, partitions.

use std::time::Duration;

use weft_core::config::PreviousRun;
use weft_core::{Command, DownReason, Reply};

use super::{Event, Net};

impl Net {
    /// A process ends without a word.
    pub(crate) fn crash(&mut self, node: usize) {
        self.nodes[node] = None;
        for link in self.links.values_mut() {
            if let Some(at) = link.ends.iter().position(|end| *end == node) {
                link.down[at] = true;
            }
        }
        self.break_links(node);
    }

    /// A process stops in order, and remembers what its next run needs.
    pub(crate) fn stop(&mut self, node: usize) -> PreviousRun {
        let request = self.command(node, |request| Command::Stop { request });
        let Some(Reply::Stopped(run)) = self.nodes[node].as_mut().unwrap().replies.remove(&request)
        else {
            panic!("a stop is answered at once");
        };
        self.run(Duration::from_millis(100));
        self.crash(node);
        run
    }

    pub(crate) fn restart(&mut self, node: usize, previous_run: PreviousRun) {
        self.boot(node, Some(previous_run));
    }

    /// A process that was killed is started again.
    pub(crate) fn restart_killed(&mut self, node: usize, epoch: u64) {
        let killed = PreviousRun {
            epoch,
            ..PreviousRun::default()
        };
        self.boot(node, Some(killed));
    }

    /// A process is stopped by a signal: nothing happens to it until it resumes.
    pub(crate) fn hang(&mut self, node: usize, duration: Duration) {
        let until = self.time + duration;
        self.nodes[node].as_mut().unwrap().hung_until = Some(until);
    }

    /// Cuts all links between two groups, and lets none be made.
    pub(crate) fn partition(&mut self, left: &[usize], right: &[usize]) {
        for &a in left {
            for &b in right {
                self.cut.extend([(a, b), (b, a)]);
            }
        }
        let broken: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| self.cut.contains(&(link.ends[0], link.ends[1])))
            .map(|(link, _)| *link)
            .collect();
        for link in broken {
            self.break_link(link);
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    fn break_links(&mut self, node: usize) {
        let broken: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.ends.contains(&node))
            .map(|(link, _)| *link)
            .collect();
        for link in broken {
            self.break_link(link);
        }
    }

    pub(super) fn break_link(&mut self, link: u64) {
        if let Some(end) = self.links.get(&link) {
            let ends = end.ends;
            let latency = self.latency(ends[0], ends[1]);
            for node in ends {
                let reason = DownReason::Broken("the link was cut".to_owned());
                self.at(latency, Event::Down { node, link, reason });
            }
        }
    }
}
