//! What this run adds to a file system, and takes away again unless the run ends well.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::room::Room;
use crate::units;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

/// A file of iobench's that was made or made longer; dropped, it is removed, or cut back to what it was.
pub(crate) struct Growth {
    file: File,
    path: PathBuf,
    /// `None`: there was none.
    before: Option<u64>,
    reserved: bool,
    kept: bool,
}

impl Growth {
    /// Makes the file.
    pub(crate) fn from_nothing(path: &Path) -> io::Result<Growth> {
        Ok(Growth::new(File::create_new(path)?, path, None))
    }

    /// From the length that it has.
    pub(crate) fn from_here(path: &Path) -> io::Result<Growth> {
        let file = File::options().read(true).write(true).open(path)?;
        let before = file.metadata()?.len();
        Ok(Growth::new(file, path, Some(before)))
    }

    fn new(file: File, path: &Path, before: Option<u64>) -> Growth {
        Growth {
            file,
            path: path.to_owned(),
            before,
            reserved: false,
            kept: false,
        }
    }

    /// Takes the space at once, so that a disk too small is known before it is full.
    pub(crate) fn reserve(&mut self, length: u64) -> Result<()> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, length.cast_signed()) {
            Ok(()) => self.reserved = true,
            Err(Errno::EOPNOTSUPP) => {} // it can't: `check` is asked before each write
            Err(error) => return Err(crate::target::explain(&self.path, error.into())),
        }
        self.check_room()
    }

    /// To be called before each write: nothing where the space is taken already, else whether there is some.
    pub(crate) fn check(&self) -> Result<()> {
        if self.reserved {
            return Ok(());
        }
        self.check_room()
    }

    /// Others write, too.
    fn check_room(&self) -> Result<()> {
        let room = Room::at(&self.path)?;
        if room.is_low() {
            return Err(format!(
                "{}: only {} are free now, and {} were to be left",
                self.path.display(),
                units::size(room.free),
                units::size(room.margin)
            )
            .into());
        }
        Ok(())
    }

    /// It stays as it is.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }

    fn undo(&self) -> io::Result<String> {
        let path = self.path.display();
        match self.before {
            None => {
                // Not what may have been given its name since.
                let (ours, named) = (self.file.metadata()?, fs::symlink_metadata(&self.path)?);
                if (ours.dev(), ours.ino()) == (named.dev(), named.ino()) {
                    fs::remove_file(&self.path)?;
                }
                Ok(format!("{path} is removed again"))
            }
            Some(before) => {
                self.file.set_len(before)?;
                let before = units::size(before);
                Ok(format!("{path} is cut back to {before}"))
            }
        }
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        match self.undo() {
            Ok(done) => eprintln!("iobench: {done}"),
            Err(error) => eprintln!("iobench: {}: undoing: {error}", self.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(path: &Path) -> Growth {
        fs::write(path, [1; 5000]).unwrap();
        let mut growth = Growth::from_here(path).unwrap();
        growth.reserve(100_000).unwrap();
        growth
    }

    #[test]
    fn what_was_made_is_removed_unless_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        drop(Growth::from_nothing(&path).unwrap());
        assert!(!path.exists());
        Growth::from_nothing(&path).unwrap().keep();
        assert!(path.exists());
    }

    #[test]
    fn what_was_made_longer_is_cut_back_unless_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old");
        drop(grown(&path));
        assert_eq!(fs::read(&path).unwrap(), [1; 5000]);
        grown(&path).keep();
        assert!(path.metadata().unwrap().len() >= 100_000);
    }

    #[test]
    fn a_file_that_is_there_is_never_taken_for_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old");
        fs::write(&path, "theirs").unwrap();
        let refused = Growth::from_nothing(&path).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
    }

    #[test]
    fn what_has_got_the_name_since_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("new"), dir.path().join("moved"));
        let growth = Growth::from_nothing(&path).unwrap();
        fs::rename(&path, moved).unwrap();
        fs::write(&path, "theirs").unwrap();
        drop(growth);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
    }
}
