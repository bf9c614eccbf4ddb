//! What carries the links of a testnet's daemons.

use serde::{Deserialize, Serialize};

/// What carries the links of a testnet's daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP, Noise and Yamux: a daemon that is killed is noticed at once.
    #[default]
    Tcp,
    /// QUIC: a daemon that is killed is noticed by its silence, within three seconds.
    Quic,
}

impl Transport {
    /// Returns the multiaddress of a port on 127.0.0.1.
    pub(crate) fn loopback(self, port: u16) -> String {
        match self {
            Self::Tcp => format!("/ip4/127.0.0.1/tcp/{port}"),
            Self::Quic => format!("/ip4/127.0.0.1/udp/{port}/quic-v1"),
        }
    }
}
