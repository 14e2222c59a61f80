//! Control groups: limits that hold for a process and all its children, and for no other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A control group of our own below one that is mounted, removed when it is dropped.
#[derive(Debug)]
pub struct ControlGroup {
    top: PathBuf,
    path: PathBuf,
}

impl ControlGroup {
    /// A group below the first of `tops` where groups have the file `needed`: the two versions of control groups
    /// have different places.
    ///
    /// # Errors
    /// None has it, or there is no right to make groups.
    pub fn new(tops: &[&str], needed: &str) -> io::Result<ControlGroup> {
        let name = format!("kiocb-test-{}", std::process::id());
        for top in tops.iter().map(PathBuf::from) {
            let path = top.join(&name);
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let group = ControlGroup { top, path };
            if group.path.join(needed).exists() {
                return Ok(group);
            }
        }
        Err(io::Error::other(format!("no control group has {needed}")))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes to one of its files.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn set(&self, file: &str, value: &str) {
        fs::write(self.path.join(file), value).expect("a control group takes it");
    }

    /// This process, with all its threads, is in it from now on.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn enter(&self) {
        self.set("cgroup.procs", "0");
    }

    /// This process is in the group above from now on.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn leave(&self) {
        fs::write(self.top.join("cgroup.procs"), "0").expect("back to the group above");
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}
