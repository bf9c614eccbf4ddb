//! Figures of lookups, with bounds that leave room; `--nocapture` prints them, `WEFT_DHT_N` sets the number of nodes.

use std::env;
use std::time::Duration;

use super::network::{Network, peers};
use crate::dht::{Call, Config, Outcome};

/// Nodes unless `WEFT_DHT_N` says otherwise.
const NODES: u32 = 1_000;

fn nodes() -> u32 {
    let n = env::var("WEFT_DHT_N").ok().and_then(|n| n.parse().ok());
    n.unwrap_or(NODES)
}

#[derive(Default)]
struct Means {
    lookups: u32,
    exact: u32,
    found: u32,
    hops: f64,
    answers: f64,
    requests: f64,
    seconds: Vec<f64>,
}

/// Looks up random keys from random honest nodes, a hundred at once.
fn measure(network: &mut Network, lookups: u32) -> Means {
    let honest = network.honest();
    let mut means = Means::default();
    while means.lookups < lookups {
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let by = honest[network.draw(honest.len() as u32) as usize];
                let key = network.random_key();
                (by, key.clone(), network.call(by, Call::Closest(key)))
            })
            .collect();
        for (by, key, id) in calls {
            let reply = network.reply(id);
            let Outcome::Closest { contacts } = reply.outcome else {
                panic!("another outcome");
            };
            let others = honest.iter().copied().filter(|&other| other != by);
            let truth = network.closest_of(others, key.point(), 20);
            let got = peers(&contacts);
            means.lookups += 1;
            means.exact += u32::from(got == truth);
            means.found += u32::from(got.contains(&truth[0]));
            if let Some(closest) = reply.stats.closest {
                means.hops += f64::from(closest.hops);
                means.answers += f64::from(closest.answers);
            }
            means.requests += f64::from(reply.stats.requests);
            means.seconds.push(reply.took.as_secs_f64());
        }
    }
    means.seconds.sort_by(f64::total_cmp);
    means
}

impl Means {
    fn print(&self, what: &str) {
        let n = f64::from(self.lookups);
        println!(
            "{what}: {} lookups, exact {:.4}, closest found {:.4}, hops {:.3}, answers to find it {:.3}, \
             requests {:.2}, seconds p50 {:.3} p99 {:.3}",
            self.lookups,
            f64::from(self.exact) / n,
            f64::from(self.found) / n,
            self.hops / n,
            self.answers / n,
            self.requests / n,
            self.seconds[self.seconds.len() / 2],
            self.seconds[self.seconds.len() * 99 / 100],
        );
    }
}

#[test]
fn lookups_over_tables_from_real_joins() {
    let n = nodes();
    let mut network = Network::grown(1, n, Config::default());
    println!("{n} nodes settled, {} messages", network.sent);
    let means = measure(&mut network, 1_000);
    means.print("after the joins");
    network.run(Duration::from_secs(13 * 60));
    println!("{} messages after a refresh", network.sent);
    let means = measure(&mut network, 1_000);
    means.print("after a refresh");
    network.check();
}

#[test]
fn lookups_over_ideal_tables() {
    let n = nodes();
    let mut network = Network::ideal(1, n, Config::default());
    let means = measure(&mut network, 1_000);
    means.print("ideal tables");
}
