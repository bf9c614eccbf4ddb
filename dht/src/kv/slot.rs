//! The slot that Redis Cluster would put a key in (its specification, "Key distribution model"): CRC16 modulo 16,384.
//!
//! Nothing here is placed by slot. It is shown beside a key's point, so that who comes from there can check that a tag
//! keeps keys together as it did there.

/// Slots of a Redis cluster.
pub const SLOTS: u16 = 16_384;

/// Returns the slot of what a key is placed by ([`super::KvKey::placement`]).
pub fn slot(placement: &[u8]) -> u16 {
    crc16(placement) % SLOTS
}

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0, nothing reflected (the specification's appendix A).
fn crc16(bytes: &[u8]) -> u16 {
    let step = |crc: u16, _| {
        let shifted = crc << 1;
        if crc & 0x8000 == 0 {
            shifted
        } else {
            shifted ^ 0x1021
        }
    };
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), step)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_redis_clusters_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn slots_are_those_that_redis_answers() {
        // The tutorial's cluster answers `CLUSTER KEYSLOT foo` and `hello` with these.
        assert_eq!((slot(b"foo"), slot(b"hello")), (12_182, 866));
        assert_eq!(slot(b"123456789"), 0x31c3 % SLOTS);
    }
}
