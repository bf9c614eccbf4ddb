//! Where a peer can be dialled, opaque to the core.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

/// Bytes of one address: a multiaddress with a DNS name and a peer id stays below this.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Addresses of one peer that are kept and passed on: a few transports on a few interfaces.
pub const ADDRESSES_MAX: usize = 8;

/// An IPv4 /24 or an IPv6 /48, numbered: what one party may well hold all of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix(pub u64);

/// The binary form of a multiaddress. The core stores and passes it on, and reads no more of it than its prefix; only the
/// owner of the links dials it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Bytes);

impl Address {
    /// Takes a multiaddress in binary form; none if it is empty or longer than [`ADDRESS_BYTES_MAX`].
    pub fn new(bytes: Bytes) -> Option<Self> {
        (1..=ADDRESS_BYTES_MAX)
            .contains(&bytes.len())
            .then_some(Self(bytes))
    }

    /// Returns the prefix in which the address lies; none for names, and for ranges that aren't public: there a prefix
    /// says nothing of who holds it.
    pub fn public_prefix(&self) -> Option<Prefix> {
        // The first part of a multiaddress: its protocol's code, and for IP the address's bytes.
        let (&code, rest) = self.0.split_first()?;
        match code {
            4 => {
                let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
                let [a, b, c, _] = ip.octets();
                // 100.64.0.0/10 is shared by whoever sits behind one carrier's NAT (RFC 6598).
                let shared = a == 100 && b & 0xc0 == 64;
                let special = ip.is_loopback() || ip.is_private() || ip.is_link_local();
                let prefix = u64::from_be_bytes([4, 0, 0, 0, 0, a, b, c]);
                (!shared && !special && !ip.is_unspecified()).then_some(Prefix(prefix))
            }
            41 => {
                let ip = Ipv6Addr::from(*rest.first_chunk::<16>()?);
                if let Some(ip) = ip.to_ipv4_mapped() {
                    return Self(Bytes::copy_from_slice(&[&[4][..], &ip.octets()].concat()))
                        .public_prefix();
                }
                let special = ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_unique_local()
                    || ip.is_unicast_link_local();
                let [a, b, c, d, e, f, ..] = ip.octets();
                let prefix = u64::from_be_bytes([6, 0, a, b, c, d, e, f]);
                (!special).then_some(Prefix(prefix))
            }
            _ => None,
        }
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ip: [u8; 4]) -> Address {
        let parts = [&[4][..], &ip, &[6, 15, 160]].concat();
        Address::new(parts.into()).unwrap()
    }

    fn v6(ip: &str) -> Address {
        let ip: Ipv6Addr = ip.parse().unwrap();
        let parts = [&[41][..], &ip.octets(), &[6, 15, 160]].concat();
        Address::new(parts.into()).unwrap()
    }

    #[test]
    fn public_addresses_of_one_prefix_are_told_from_those_of_another() {
        let prefix = v4([203, 0, 114, 7]).public_prefix();
        assert!(prefix.is_some());
        assert_eq!(v4([203, 0, 114, 9]).public_prefix(), prefix);
        assert_ne!(v4([203, 0, 115, 7]).public_prefix(), prefix);
        let wide = v6("2a00:1450:4001:1::1").public_prefix();
        assert!(wide.is_some());
        assert_eq!(v6("2a00:1450:4001:2::9").public_prefix(), wide);
        assert_ne!(v6("2a00:1450:4002:1::1").public_prefix(), wide);
        assert_eq!(v6("::ffff:203.0.114.1").public_prefix(), prefix);
    }

    #[test]
    fn loopback_private_ranges_and_names_have_no_prefix() {
        for ip in [
            [127, 0, 0, 1],
            [10, 1, 2, 3],
            [192, 168, 1, 1],
            [172, 16, 0, 1],
        ] {
            assert_eq!(v4(ip).public_prefix(), None, "{ip:?}");
        }
        for ip in [[100, 64, 0, 1], [169, 254, 0, 1], [0, 0, 0, 0]] {
            assert_eq!(v4(ip).public_prefix(), None, "{ip:?}");
        }
        for ip in ["::1", "::", "fd00::1", "fe80::1", "::ffff:10.0.0.1"] {
            assert_eq!(v6(ip).public_prefix(), None, "{ip}");
        }
        for bytes in [&[53, 1, b'a'][..], &[4, 1, 2], &[41, 1]] {
            let address = Address::new(Bytes::copy_from_slice(bytes)).unwrap();
            assert_eq!(address.public_prefix(), None, "{bytes:?}");
        }
    }
}
