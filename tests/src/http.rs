//! Bytes on the control socket, written by hand: what no client of ours would send.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a daemon may take to answer or to hang up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came back to a request.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status; none if the answer wasn't HTTP.
    pub status: Option<u16>,
    /// What followed the head.
    pub body: String,
}

/// Posts a body to the daemon's control socket.
pub fn post(dir: &Path, body: &[u8]) -> Response {
    let head = format!(
        "POST / HTTP/1.1\r\nhost: weft\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    read_all(send(dir, &request))
}

/// Writes bytes to the daemon's control socket, says that no more will come, and reads until the daemon hangs up.
pub fn raw(dir: &Path, bytes: &[u8]) -> Response {
    let socket = send(dir, bytes);
    // A daemon that refuses a request may have hung up by now.
    let _ = socket.shutdown(std::net::Shutdown::Write);
    read_all(socket)
}

fn send(dir: &Path, bytes: &[u8]) -> UnixStream {
    let mut socket =
        UnixStream::connect(dir.join(weft_rpc::SOCKET_NAME)).expect("the daemon listens");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a positive timeout");
    socket
        .set_write_timeout(Some(PATIENCE))
        .expect("a positive timeout");
    // A daemon that refuses a request may hang up before it has read all of it.
    let _ = socket.write_all(bytes);
    socket
}

fn read_all(mut socket: UnixStream) -> Response {
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    Response {
        status,
        body: body.to_owned(),
    }
}
