//! A file that appears whole or not at all.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A page that will be written: its place is known to be writable before there is anything to write.
#[derive(Debug)]
pub struct Page {
    path: PathBuf,
    file: NamedTempFile,
}

/// Why a page can't be written.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Something else stands there: a directory, a device, a pipe.
    #[error("can't write {}: it is no file", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("can't write {}: {error}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

impl Page {
    /// Begins a page: a temporary file beside its place, which goes away if nothing is written.
    pub fn create(path: &Path) -> Result<Self, PageError> {
        let refused = |error| PageError::Refused {
            path: path.to_owned(),
            error,
        };
        let target = match std::fs::metadata(path) {
            Ok(there) if there.is_file() => path.canonicalize().map_err(refused)?,
            Ok(_) => return Err(PageError::NotAFile { path: path.into() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.file_name().is_some() => {
                path.to_owned()
            }
            Err(error) => return Err(refused(error)),
        };
        let folder = target
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".weft-report-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            // Its own words would name the temporary file.
            .map_err(|error| refused(error.kind().into()))?;
        Ok(Self { path: target, file })
    }

    /// Writes the page to its place, and returns that.
    pub fn write(mut self, html: &str) -> Result<PathBuf, PageError> {
        let path = self.path;
        let written = self
            .file
            .write_all(html.as_bytes())
            .and_then(|()| self.file.as_file().sync_all())
            .and_then(|()| self.file.persist(&path).map_err(|error| error.error));
        match written {
            Ok(_) => Ok(path),
            Err(error) => Err(PageError::Refused { path, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_appears_when_it_is_written_and_leaves_nothing_when_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.html");
        drop(Page::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        for text in ["one", "two"] {
            Page::create(&path).unwrap().write(text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let told = |path: &Path| Page::create(path).unwrap_err().to_string();
        assert!(told(folder.path()).ends_with("it is no file"));
        assert!(told(Path::new("/dev/null")).ends_with("it is no file"));
        let missing = folder.path().join("no/r.html");
        assert!(told(&missing).starts_with(&format!("can't write {}", missing.display())));
    }
}
