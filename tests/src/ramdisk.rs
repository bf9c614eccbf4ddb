//! A small disk of a test's own, to be filled up: a tmpfs in a mount namespace of its own, which goes with its process.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A file system of a few megabytes that nobody else uses.
#[derive(Debug)]
pub struct Ramdisk {
    /// Holds the namespace open; it ends when its standard input does.
    holder: Child,
    root: PathBuf,
}

impl Ramdisk {
    /// Mounts one of so many bytes over an empty directory, in a namespace in which nobody else sees it. An error says why
    /// the system doesn't permit it, as many containers don't.
    pub fn mount(over: &Path, bytes: u64) -> Result<Self, String> {
        let script = r#"mount -t tmpfs -o size="$2" tmpfs "$1" && echo mounted && exec cat"#;
        let mut holder = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .arg(over)
            .arg(bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare can't be run: {error}"))?;
        let stdout = holder.stdout.take().expect("piped above");
        let mut said = String::new();
        let read = BufReader::new(stdout).read_line(&mut said);
        let root = format!("/proc/{}/root", holder.id());
        let root = Path::new(&root).join(over.strip_prefix("/").expect("an absolute path"));
        if read.is_err() || said.trim() != "mounted" {
            let done = holder
                .wait_with_output()
                .map_err(|error| error.to_string())?;
            return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
        }
        Ok(Self { holder, root })
    }

    /// Where it can be reached from everywhere, as long as this value lives.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Fills it up to the last byte, by a file that can be removed again.
    pub fn fill(&self) {
        let mut ballast = File::options()
            .append(true)
            .create(true)
            .open(self.ballast())
            .expect("a file can be made");
        for block in [1 << 20, 4 << 10, 1] {
            let block = vec![0; block];
            while let Ok(written) = ballast.write(&block)
                && written > 0
            {}
        }
        let error = ballast.write(&[0]).expect_err("it is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    /// Removes what filled it.
    pub fn clear(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }
}

impl Drop for Ramdisk {
    fn drop(&mut self) {
        // The mount goes with the last process in its namespace.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
