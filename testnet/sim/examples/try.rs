use std::time::Instant;
use weft_sim::{outcome::Outcome, run, scenario::Scenario};
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let seeds: u64 = std::env::args().nth(2).map_or(1, |s| s.parse().unwrap());
    let mut s: Scenario = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    if let Some(n) = std::env::args().nth(3) {
        s.nodes = n.parse().unwrap();
    }
    if let Some(n) = std::env::args().nth(4) {
        s.seed = n.parse().unwrap();
    }
    s.check().unwrap();
    let t = Instant::now();
    let runs = (s.seed..s.seed + seeds)
        .map(|seed| run(&s, seed, &mut |_| ()))
        .collect();
    let o = Outcome::of(&s, runs);
    for (k, v) in &o.figures {
        println!("{k:30} {v:.6}");
    }
    for f in o.failures.iter().take(30) {
        println!("FAIL {} got {} at {}", f.expectation, f.got, f.at);
    }
    println!("{} failures; wall {:?}", o.failures.len(), t.elapsed());
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", s.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
