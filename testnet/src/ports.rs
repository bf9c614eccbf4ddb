//! Free ports on loopback that stay free until a daemon takes them, and over its restarts.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

/// Ports below are services' by custom.
const PORT_MIN: u16 = 10_000;

/// How long a port may take to become free, many times what the end of a process's threads takes, and how often it is tried.
const FREE_WAIT_MAX: Duration = Duration::from_secs(1);
const FREE_WAIT_INTERVAL: Duration = Duration::from_millis(5);

/// Where the system's own choice of ports for outgoing connections begins when it can't be asked (Linux's default).
const EPHEMERAL_MIN_DEFAULT: u16 = 32_768;

/// Finds `count` ports on 127.0.0.1 that are free both for TCP and for UDP, whichever the daemons will use.
///
/// They lie below the range from which the system takes ports for outgoing connections: a port from that range could be
/// taken by any dial while its daemon is down. The search starts at a random place, so that testnets that start at the
/// same time don't meet. Sockets are bound without SO_REUSEPORT, which would hide a daemon's listener.
pub(crate) fn free(count: usize) -> io::Result<Vec<u16>> {
    let end = ephemeral_min().max(PORT_MIN + 1_000);
    let span = u64::from(end - PORT_MIN);
    let start = RandomState::new().hash_one(std::process::id()) % span;
    let mut held = Vec::with_capacity(count);
    let mut ports = Vec::with_capacity(count);
    for step in 0..span {
        if ports.len() == count {
            break;
        }
        let offset = (start + step) % span;
        let port = PORT_MIN + u16::try_from(offset).expect("the span is smaller than a u16");
        if let Ok(sockets) = bind(port) {
            held.push(sockets);
            ports.push(port);
        }
    }
    if ports.len() < count {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!(
                "only {} free ports on 127.0.0.1 between {PORT_MIN} and {end}",
                ports.len()
            ),
        ));
    }
    Ok(ports)
}

/// Waits until a port on 127.0.0.1 is free; false if it isn't soon.
///
/// A daemon that has just ended may hold it a little longer: its first thread can be gone while others still end.
pub(crate) async fn wait_free(port: u16) -> bool {
    let deadline = Instant::now() + FREE_WAIT_MAX;
    while bind(port).is_err() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(FREE_WAIT_INTERVAL).await;
    }
    true
}

fn bind(port: u16) -> io::Result<(TcpListener, UdpSocket)> {
    let address = (Ipv4Addr::LOCALHOST, port);
    Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?))
}

fn ephemeral_min() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(EPHEMERAL_MIN_DEFAULT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_distinct_and_free() {
        let ports = free(50).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 50);
        assert!(ports.iter().all(|port| *port >= PORT_MIN));
    }

    #[tokio::test]
    async fn a_taken_port_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!wait_free(listener.local_addr().unwrap().port()).await);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!wait_free(socket.local_addr().unwrap().port()).await);
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        assert!(wait_free(port).await);
    }
}
