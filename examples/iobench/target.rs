//! The file that is driven: found, judged, filled where needed, opened.
//!
//! The rule about other people's data: iobench overwrites, grows, cuts and removes what it made, in this run
//! or, by the mark in its first block (see [`block`](crate::block)), in an earlier one. Everything else is
//! only read, unless `--rw` writes and `--yes` says so; its length stays what it is, and it stays somebody
//! else's.

use std::error::Error;
use std::fmt;
use std::fs::{File, FileType};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiocb::DirectFile;
use nix::fcntl::OFlag;

use crate::Result;
use crate::block::{BLOCK, Mark};
use crate::fill;
use crate::growth::Growth;
use crate::medium::Medium;
use crate::options::Options;
use crate::place::{beside_the_build, check_writable};
use crate::plan::Plan;
use crate::units;

const FILE_NAME: &str = "iobench.dat";

pub(crate) struct Target {
    pub(crate) file: Arc<File>,
    /// How much of it is used, from its beginning.
    pub(crate) length: u64,
    /// What the blocks that are written to it say.
    pub(crate) mark: Mark,
    pub(crate) medium: Medium,
    kind: Kind,
    direct: bool,
    path: PathBuf,
    growth: Option<Growth>,
}

/// What stands at the path already.
pub(crate) struct Found {
    pub(crate) kind: Kind,
    /// Endless for a character device.
    pub(crate) length: u64,
    /// How much space it takes; a file with holes is longer.
    pub(crate) allocated: u64,
    pub(crate) mark: Option<Mark>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    File,
    BlockDevice,
    CharDevice,
}

impl Target {
    pub(crate) fn prepare(options: &Options) -> Result<Target> {
        let path = options.file.clone().unwrap_or_else(default_path);
        let found = look(&path).map_err(|error| explain(&path, error))?;
        let plan = Plan::new(options, &path, found.as_ref())?;
        let kind = found.as_ref().map_or(Kind::File, |found| found.kind);
        let mut growth = grow(&path, found.as_ref(), &plan)?;
        if let Some(from) = plan.fill_from {
            fill::fill(&path, kind, &plan, from, growth.as_mut())?;
        }
        let (file, direct) = open(&path, kind, options.rw.writes(), options.bs)?;
        let target = Target {
            medium: Medium::of(&file, kind),
            file: Arc::new(file),
            length: plan.length,
            mark: plan.mark,
            kind,
            direct,
            path,
            growth,
        };
        target.unmark_if_unchecked(options)
    }

    /// What was added stays; without this it goes when the target is dropped.
    pub(crate) fn keep(self) {
        if let Some(growth) = self.growth {
            growth.keep();
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Unchecked writes spoil the blocks: says so in the file, before the first one, so that the next run
    /// fills it anew.
    fn unmark_if_unchecked(mut self, options: &Options) -> Result<Target> {
        if options.rw.writes() && !options.verify {
            let spoiled = Mark {
                filled: 0,
                ..self.mark
            };
            if self.mark != spoiled {
                let written = fill::write_mark(&self.file, spoiled);
                written.map_err(|error| explain(&self.path, error))?;
            }
            self.mark = spoiled;
        }
        Ok(self)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match (self.direct, self.kind) {
            (true, _) => "O_DIRECT",
            (false, Kind::CharDevice) => "no O_DIRECT",
            (false, _) => "through the page cache, because O_DIRECT is refused here",
        };
        let (path, length) = (self.path.display(), units::size(self.length));
        write!(out, "{path} ({length}, {how})")
    }
}

/// In the build's own folder, where `cargo clean` finds it, if it can be written there; else where temporary
/// files go.
fn default_path() -> PathBuf {
    let usual = beside_the_build(FILE_NAME);
    match check_writable(&usual) {
        Ok(()) => usual,
        Err(_) => std::env::temp_dir().join(FILE_NAME),
    }
}

fn look(path: &Path) -> io::Result<Option<Found>> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kind = kind(metadata.file_type())?;
    let mut file = File::open(path)?;
    let length = match kind {
        Kind::CharDevice => u64::MAX,
        Kind::File | Kind::BlockDevice => file.seek(SeekFrom::End(0))?,
    };
    let mark = match kind {
        Kind::CharDevice => None,
        Kind::File | Kind::BlockDevice => read_mark(&file),
    };
    Ok(Some(Found {
        kind,
        length,
        allocated: metadata.blocks() * 512,
        mark: mark.map(|mark| Mark {
            filled: mark.filled.min(length), // it may have been cut since
            ours: mark.ours && kind == Kind::File,
        }),
    }))
}

fn kind(file_type: FileType) -> io::Result<Kind> {
    if file_type.is_file() {
        Ok(Kind::File)
    } else if file_type.is_block_device() {
        Ok(Kind::BlockDevice)
    } else if file_type.is_char_device() {
        Ok(Kind::CharDevice)
    } else {
        Err(io::Error::other("neither a file nor a device"))
    }
}

fn read_mark(file: &File) -> Option<Mark> {
    let mut first = [0; BLOCK];
    file.read_exact_at(&mut first, 0).ok()?;
    Mark::of(&first)
}

/// A file that is made, or made longer.
fn grow(path: &Path, found: Option<&Found>, plan: &Plan) -> Result<Option<Growth>> {
    let growth = match found {
        None => Growth::from_nothing(path),
        Some(found) if plan.mark.ours && plan.length > found.length => Growth::from_here(path),
        Some(_) => return Ok(None),
    };
    growth.map(Some).map_err(|error| explain(path, error))
}

/// Opens with `O_DIRECT` where that is possible, and says whether it was.
pub(crate) fn open(path: &Path, kind: Kind, write: bool, bs: usize) -> Result<(File, bool)> {
    let mut options = DirectFile::options();
    options.read(true).write(write);
    if write && kind == Kind::BlockDevice {
        // There it means: not while it is mounted.
        options.custom_flags(OFlag::O_EXCL.bits());
    }
    let file = options.open_or_buffered(path);
    let file = file.map_err(|error| explain(path, error))?;
    let (unit, direct) = (file.offset_alignment(), file.is_direct());
    if !(bs as u64).is_multiple_of(unit) {
        let path = path.display();
        return Err(format!("{path}: takes O_DIRECT in multiples of {unit}, not --bs {bs}").into());
    }
    Ok((file.into(), direct))
}

/// The path, the cause and, where there is one, the cure.
pub(crate) fn explain(path: &Path, error: io::Error) -> Box<dyn Error + Send + Sync> {
    let cure = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; use less with --size, or another place with --file PATH"
        }
        ErrorKind::FileTooLarge => "; use less with --size",
        ErrorKind::NotFound => "; its folder must exist",
        ErrorKind::PermissionDenied => {
            "; it must be readable, and writable where iobench fills or --rw writes; choose another with --file PATH"
        }
        ErrorKind::ReadOnlyFilesystem => "; choose another place with --file PATH",
        ErrorKind::ResourceBusy => "; a mounted device is not written",
        _ => "",
    };
    format!("{}: {error}{cure}", path.display()).into()
}
