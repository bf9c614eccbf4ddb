//! A node's directory: the lock that makes it one daemon's, the key file, and the limit on open files.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit};
use weft_identity::{KeyError, Keypair};

/// The lock's name in the directory; the file holds the daemon's process id.
const LOCK_NAME: &str = "lock";

/// The key's name in the directory, as ssh would name it.
const KEY_NAME: &str = "id_ed25519";

/// Bytes of a key file that are read: OpenSSH's form of an ed25519 key has about 400, and an RSA key, which is to be
/// named in the refusal, some thousand.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// A directory that this process alone runs a node in, until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held, not read: the lock goes with the descriptor, so a killed daemon leaves none.
    _lock: File,
}

/// Why a directory can't be used. Nothing in it has changed.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Another daemon runs in it.
    #[error("another daemon{} runs in {}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other daemon's process id, if it has written it.
        pid: Option<u32>,
    },
    /// It can't be made or written.
    #[error("can't use the directory {}: {source}", path.display())]
    Io {
        /// The directory, or the file in it.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Others may read it, so it may be known already.
    #[error("the key {} may be read by others (mode {mode:04o})", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It isn't there, or this user may not read it.
    #[error("can't read the key {}: {source}", path.display())]
    Unreadable {
        /// The key file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// It holds something else than a key for a peer.
    #[error("can't use the key {}: {source}", path.display())]
    Invalid {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A new one can't be made.
    #[error("can't make the key {}: {source}", path.display())]
    Make {
        /// The key file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl DataDir {
    /// Makes the directory if it is absent (mode 0700) and takes its lock, without waiting for it.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let io = |source| DirError::Io {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK_NAME))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message: an unreadable pid is left out.
                let _ = lock.read_to_string(&mut pid);
                return Err(DirError::InUse {
                    path: path.to_owned(),
                    pid: pid.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        // Over what is there, so that it works on a full disk. Only for the message that a second daemon gives.
        let pid = format!("{}\n", std::process::id());
        let _ = lock
            .write_all_at(pid.as_bytes(), 0)
            .and_then(|()| lock.set_len(pid.len() as u64));
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Returns the directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the node's key from a file of the caller's, or else from the directory, where one is made if none is there.
    pub fn load_or_make_key(&self, file: Option<&Path>) -> Result<Keypair, KeyFileError> {
        if let Some(path) = file {
            return load_key(path);
        }
        let path = self.path.join(KEY_NAME);
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_key(&path),
            _ => load_key(&path),
        }
    }

    /// Makes a key, durably and never half written.
    fn make_key(&self, path: &Path) -> Result<Keypair, KeyFileError> {
        let make = |source| KeyFileError::Make {
            path: path.to_owned(),
            source,
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| make(io::Error::other(error.to_string())))?;
        let keypair = Keypair::from_seed(&seed);
        let text = keypair
            .to_openssh("weft")
            .map_err(|source| KeyFileError::Invalid {
                path: path.to_owned(),
                source,
            })?;
        let new = self.path.join(format!("{KEY_NAME}.new"));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            // The file of an earlier attempt keeps its mode.
            file.set_permissions(PermissionsExt::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(make)?;
        Ok(keypair)
    }
}

/// Reads a key file that only its owner may read.
fn load_key(path: &Path) -> Result<Keypair, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that what is checked is what is read.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.take(KEY_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Keypair::from_openssh(&bytes).map_err(|source| KeyFileError::Invalid {
        path: path.to_owned(),
        source,
    })
}

/// Raises this process's limit on open files as far as it may; returns the limit (`None`: no limit).
pub fn raise_open_files_limit() -> io::Result<Option<u64>> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    Ok(limit.maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_daemons_until_it_is_dropped() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        match DataDir::open(&path) {
            Err(DirError::InUse { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        let made = dir.load_or_make_key(None).unwrap();
        let path = temp.path().join(KEY_NAME);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            dir.load_or_make_key(None).unwrap().peer_id(),
            made.peer_id()
        );
        assert_eq!(
            dir.load_or_make_key(Some(&path)).unwrap().peer_id(),
            made.peer_id()
        );
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        dir.load_or_make_key(None).unwrap();
        let path = temp.path().join(KEY_NAME);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        match dir.load_or_make_key(None) {
            Err(error @ KeyFileError::Exposed { mode: 0o644, .. }) => {
                assert!(error.to_string().contains("mode 0644"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn missing_and_malformed_keys_are_told_apart() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        let missing = temp.path().join("none");
        assert!(matches!(
            dir.load_or_make_key(Some(&missing)),
            Err(KeyFileError::Unreadable { .. })
        ));
        assert!(dir.load_or_make_key(Some(temp.path())).is_err());
        let path = temp.path().join(KEY_NAME);
        std::fs::write(&path, "no key").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(matches!(
            dir.load_or_make_key(None),
            Err(KeyFileError::Invalid { .. })
        ));
    }

    #[test]
    fn the_limit_on_open_files_goes_up_to_what_is_allowed() {
        let raised = raise_open_files_limit().unwrap();
        assert_eq!(rustix::process::getrlimit(Resource::Nofile).current, raised);
    }
}
