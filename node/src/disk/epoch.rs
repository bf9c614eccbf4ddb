//! The file `epoch`: lines of text, the last of them a check of those before.
//!
//! ```text
//! weft epoch 1
//! epoch 1764100000000
//! clean
//! last 42 logs
//! check 9f86d081884c7d65
//! ```

use std::fmt::Write;

use weft_core::TopicName;
use weft_core::config::PreviousRun;
use weft_core::topic::NETWORK;
use weft_identity::Hash;

const HEAD: &str = "weft epoch 1";

/// Encodes what the next run must know.
pub(super) fn encode(run: &PreviousRun) -> Vec<u8> {
    let mut text = format!("{HEAD}\nepoch {}\n", run.epoch);
    if run.clean {
        text.push_str("clean\n");
        for (topic, seq) in &run.last_seqs {
            text.push_str(&format!("last {seq} {topic}\n"));
        }
    }
    let check = check(&text);
    text.push_str(&format!("check {check}\n"));
    text.into_bytes()
}

/// Reads the file; an error says what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<PreviousRun, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text")?;
    let text = text.strip_suffix('\n').ok_or("its end is missing")?;
    let (_, last) = text.rsplit_once('\n').ok_or("its end is missing")?;
    let checked = &text[..text.len() - last.len()];
    let expected = last.strip_prefix("check ").ok_or("its end is missing")?;
    if check(checked) != expected {
        return Err("the check does not fit");
    }
    let mut lines = checked.lines();
    if lines.next() != Some(HEAD) {
        return Err("another format");
    }
    let epoch = lines.next().and_then(|line| line.strip_prefix("epoch "));
    let mut run = PreviousRun {
        epoch: epoch.and_then(|n| n.parse().ok()).ok_or("no epoch")?,
        ..PreviousRun::default()
    };
    for line in lines {
        if line == "clean" {
            run.clean = true;
            continue;
        }
        let (seq, topic) = line
            .strip_prefix("last ")
            .and_then(|rest| rest.split_once(' '))
            .ok_or("an unknown line")?;
        let topic = match topic {
            // The root swarm's name is no user's to write, but the node publishes there as well.
            NETWORK => TopicName::network(),
            name => name.parse().map_err(|_| "a bad topic")?,
        };
        let seq = seq.parse().map_err(|_| "a bad seq")?;
        run.last_seqs.insert(topic, seq);
    }
    Ok(run)
}

/// The first eight bytes of the text's SHA-256: against torn writes and flipped bits, not against people.
fn check(text: &str) -> String {
    let mut out = String::with_capacity(16);
    for byte in &Hash::of(text.as_bytes()).as_bytes()[..8] {
        // Writing to a String can't fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let run = PreviousRun {
            epoch: 1_764_100_000_000,
            clean: true,
            last_seqs: [("logs".parse().unwrap(), 42), (TopicName::network(), 7)].into(),
        };
        let bytes = encode(&run);
        assert_eq!(parse(&bytes), Ok(run));
        for at in 0..bytes.len() {
            assert!(parse(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(parse(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}
