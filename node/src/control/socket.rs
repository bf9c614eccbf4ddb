//! The listener's place in the file system: mode 0600 from the first moment, and any length of path.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use weft_rpc::SOCKET_NAME;

/// Bytes of path that a Unix socket's address holds, without the closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Binds the directory's control socket and replaces one that is there. It gets its name only once its mode is set, so
/// at no moment may another user connect.
pub(super) fn bind(dir: &Path) -> io::Result<UnixListener> {
    let new = format!("{SOCKET_NAME}.new");
    // Kept until the address was used.
    let directory = File::open(dir)?;
    let mut base = PathBuf::from(dir);
    if dir.join(&new).as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        base = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    }
    let bound = base.join(&new);
    match fs::remove_file(&bound) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = net::UnixListener::bind(&bound)?;
    fs::set_permissions(&bound, PermissionsExt::from_mode(0o600))?;
    fs::rename(&bound, base.join(SOCKET_NAME))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_replaces_a_stale_one() {
        let temp = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let _listener = bind(temp.path()).unwrap();
            let mode = temp
                .path()
                .join(SOCKET_NAME)
                .metadata()
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(temp.path().read_dir().unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_path_longer_than_an_address_works() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("d".repeat(200));
        fs::create_dir(&dir).unwrap();
        let _listener = bind(&dir).unwrap();
        assert!(dir.join(SOCKET_NAME).exists());
    }
}
