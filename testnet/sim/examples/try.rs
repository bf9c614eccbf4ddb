use std::time::{Duration, Instant};
use weft_overlay::Time;
use weft_sim::*;
use weft_sim::{duration::Span, graph::Graph, link::*, machine::*, reseed::Contacts};
fn main() {
    let n: u32 = std::env::args().nth(1).unwrap().parse().unwrap();
    let secs: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let msgs: u32 = std::env::args().nth(3).unwrap().parse().unwrap();
    let t0 = Instant::now();
    let mut e: Engine<swarm::Member> = Engine::new(1, n, Links::default(), Contacts::Nobody);
    let config = swarm::Config {
        vias: 3,
        ..Default::default()
    };
    println!("member {} B", size_of::<swarm::Member>());
    for i in 0..n {
        let m = swarm::Member::new(i, &config, 1000 + i as u64, e.now());
        e.start(i, m);
        if i > 0 {
            e.tell(
                i,
                Fact::Join {
                    via: (i - 1).min(i % 3),
                },
            );
        }
        let t = e.now().time + Duration::from_micros(10_000_000 / u64::from(n));
        e.run_until(t, &mut |_, _| ());
    }
    println!("joined {:?} events {}", t0.elapsed(), e.events());
    let end = Time::from_micros(10_000_000 + secs * 1_000_000);
    e.run_until(end, &mut |_, _| ());
    println!("settled {:?} events {}", t0.elapsed(), e.events());
    let g = Graph::of(&e);
    let mut rng = e.rng().clone();
    if n <= 20000 {
        println!("{:?} {:?}", g.measure(&mut rng), g.degrees());
    } else {
        println!("{:?} {:?}", g.components().len(), g.degrees());
    }
    println!("graph {:?}", t0.elapsed());
    for k in 0..msgs {
        e.watch.label(k as u16);
        let t = e.watch.traffic;
        e.tell(
            n / 2,
            Fact::Publish {
                messages: 1,
                bytes: 256,
            },
        );
        let until = e.now().time + Duration::from_millis(if k == msgs - 1 { 3000 } else { 1000 });
        e.run_until(until, &mut |_, _| ());
        let t2 = e.watch.traffic;
        let m = e.watch.messages(k as u16).next().unwrap();
        println!(
            "msg {k} delivered {} hops {} completion {:?} rmr {:.4} frames {}",
            m.delivered,
            m.hops_max,
            m.last_at.since(m.at),
            m.copies as f64 / (n - 1) as f64 - 1.0,
            t2.frames - t.frames
        );
    }
    println!(
        "done {:?} events {} owed {:?} viol {:?} acc {:?}",
        t0.elapsed(),
        e.events(),
        e.watch.owed(),
        e.watch.violations,
        e.watch.accusations
    );
    let _ = Span(Duration::ZERO);
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", s.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
