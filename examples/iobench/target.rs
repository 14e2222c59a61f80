//! The file that is driven: found, judged, filled where needed, opened.
//!
//! The rule about other people's data: what exists and does not begin with iobench's mark (see [`block`]) is
//! only ever read, unless `--rw` writes and `--yes` says so.

use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiocb::AlignedBuf;
use nix::fcntl::OFlag;

use crate::Result;
use crate::block::{self, BLOCK};
use crate::fill;
use crate::options::Options;
use crate::units;

const DEFAULT_SIZE: u64 = 1 << 30;

pub(crate) struct Target {
    pub(crate) file: Arc<File>,
    /// How much of it is used, from its beginning.
    pub(crate) length: u64,
    /// How much of it holds self-describing blocks; at least `length` when reads are checked.
    filled: u64,
    direct: bool,
    path: PathBuf,
}

/// What stands at the path already.
struct Found {
    kind: Kind,
    /// Endless for a character device.
    length: u64,
    /// The filled length, when iobench made it.
    mark: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    File,
    BlockDevice,
    CharDevice,
}

/// What to do before the engines run.
struct Plan {
    length: u64,
    /// How much will hold self-describing blocks.
    filled: u64,
    fill: bool,
}

impl Target {
    pub(crate) fn prepare(options: &Options) -> Result<Target> {
        let path = options
            .file
            .clone()
            .unwrap_or_else(|| beside_the_build("iobench.dat"));
        let found = look(&path).map_err(|error| explain(&path, error))?;
        let plan = plan(options, &path, found.as_ref())?;
        if plan.length < options.bs as u64 {
            return Err(format!(
                "{}: too small for one request of {}",
                path.display(),
                units::size(options.bs as u64)
            )
            .into());
        }
        let kind = found.as_ref().map_or(Kind::File, |found| found.kind);
        if plan.fill {
            fill::fill(&path, kind, plan.length, found.is_none())?;
        }
        let target =
            Target::open(options, &path, kind, &plan).map_err(|error| explain(&path, error))?;
        target.unmark_if_unchecked(options)?;
        Ok(target)
    }

    fn open(options: &Options, path: &Path, kind: Kind, plan: &Plan) -> io::Result<Target> {
        let (file, direct) = open(path, kind, options.rw.writes(), options.bs)?;
        Ok(Target {
            file: Arc::new(file),
            length: plan.length,
            filled: plan.filled,
            direct,
            path: path.into(),
        })
    }

    /// The length that written blocks carry: 0 marks a file whose content is not to be relied on.
    pub(crate) fn stamp_length(&self, options: &Options) -> u64 {
        if options.verify { self.filled } else { 0 }
    }

    /// Unchecked writes spoil a file of ours: say so in it, before the first one, so that the next run fills
    /// it anew.
    fn unmark_if_unchecked(&self, options: &Options) -> Result<()> {
        if self.filled > 0 && options.rw.writes() && !options.verify {
            fill::write_mark(&self.file, 0).map_err(|error| explain(&self.path, error))?;
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.direct {
            "O_DIRECT"
        } else {
            "buffered, because O_DIRECT is refused here"
        };
        write!(
            out,
            "{} ({}, {how})",
            self.path.display(),
            units::size(self.length)
        )
    }
}

/// A path in the build's own folder (`target`), where `cargo clean` finds it; in the current one when run
/// from elsewhere.
pub(crate) fn beside_the_build(name: &str) -> PathBuf {
    let Ok(program) = std::env::current_exe() else {
        return name.into();
    };
    // target/release/examples/iobench
    let examples = program
        .parent()
        .filter(|folder| folder.ends_with("examples"));
    let Some(build) = examples.and_then(|folder| folder.ancestors().nth(2)) else {
        return name.into();
    };
    let here = std::env::current_dir().unwrap_or_default();
    build.strip_prefix(here).unwrap_or(build).join(name)
}

fn look(path: &Path) -> io::Result<Option<Found>> {
    let kind = match path.metadata() {
        Ok(metadata) => kind(metadata.file_type())?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut file = File::open(path)?;
    let length = if kind == Kind::CharDevice {
        u64::MAX
    } else {
        file.seek(SeekFrom::End(0))?
    };
    let mark = match kind {
        Kind::CharDevice => None,
        // Nothing to lose: as good as ours.
        Kind::File if length == 0 => Some(0),
        // Somebody may have cut it since it was filled.
        Kind::File | Kind::BlockDevice => read_mark(&file).map(|filled| filled.min(length)),
    };
    Ok(Some(Found { kind, length, mark }))
}

fn kind(file_type: std::fs::FileType) -> io::Result<Kind> {
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

fn read_mark(file: &File) -> Option<u64> {
    let mut first = [0; BLOCK];
    file.read_exact_at(&mut first, 0)
        .ok()
        .and_then(|()| block::ownership(&first))
}

fn plan(options: &Options, path: &Path, found: Option<&Found>) -> Result<Plan> {
    match found {
        None => Ok(Plan::filling(options.size.unwrap_or(DEFAULT_SIZE))),
        Some(Found {
            mark: Some(filled),
            kind,
            length,
        }) => plan_for_ours(options, path, *kind, *length, *filled),
        Some(found) if options.rw.writes() => plan_for_overwriting(options, path, found),
        Some(found) => plan_for_reading(options, path, found),
    }
}

fn plan_for_ours(
    options: &Options,
    path: &Path,
    kind: Kind,
    length: u64,
    filled: u64,
) -> Result<Plan> {
    let known = [filled, length].into_iter().find(|&bytes| bytes > 0);
    let whole = known
        .filter(|_| options.file.is_some())
        .unwrap_or(DEFAULT_SIZE);
    let limit = if kind == Kind::File { u64::MAX } else { length };
    let wanted = options.size.unwrap_or(whole.min(limit));
    fits(path, wanted, limit)?;
    let enough = Plan {
        length: wanted,
        filled,
        fill: false,
    };
    Ok(if wanted <= filled {
        enough
    } else {
        Plan::filling(wanted)
    })
}

fn plan_for_overwriting(options: &Options, path: &Path, found: &Found) -> Result<Plan> {
    if !options.yes {
        return Err(format!(
            "{}: not made by iobench, and --rw {} would overwrite it; add --yes if that is meant",
            path.display(),
            options.rw.name()
        )
        .into());
    }
    let plan = plan_for_foreign(options, path, found)?;
    // Filled first, so that a later run can check what it reads.
    let fill = options.verify && found.kind != Kind::CharDevice;
    Ok(if fill {
        Plan::filling(plan.length)
    } else {
        plan
    })
}

fn plan_for_reading(options: &Options, path: &Path, found: &Found) -> Result<Plan> {
    if options.verify {
        return Err(format!(
            "{}: not made by iobench, so what is read from it can't be checked; add --no-verify",
            path.display()
        )
        .into());
    }
    plan_for_foreign(options, path, found)
}

fn plan_for_foreign(options: &Options, path: &Path, found: &Found) -> Result<Plan> {
    let whole = if found.kind == Kind::CharDevice {
        DEFAULT_SIZE
    } else {
        found.length
    };
    let length = options.size.unwrap_or(whole);
    fits(path, length, found.length)?;
    Ok(Plan {
        length,
        filled: 0,
        fill: false,
    })
}

fn fits(path: &Path, wanted: u64, length: u64) -> Result<()> {
    if wanted <= length {
        return Ok(());
    }
    Err(format!(
        "{}: has only {}, not {}; lower --size",
        path.display(),
        units::size(length),
        units::size(wanted)
    )
    .into())
}

impl Plan {
    fn filling(size: u64) -> Plan {
        let length = size - size % BLOCK as u64;
        Plan {
            length,
            filled: length,
            fill: true,
        }
    }
}

/// Opens with `O_DIRECT` where that works for requests of `bs` bytes, and says whether it did.
pub(crate) fn open(path: &Path, kind: Kind, write: bool, bs: usize) -> io::Result<(File, bool)> {
    // On a block device O_EXCL means: not while it is mounted.
    let exclusive = if write && kind == Kind::BlockDevice {
        OFlag::O_EXCL
    } else {
        OFlag::empty()
    };
    let open = |flags: OFlag| {
        OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags((flags | exclusive).bits())
            .open(path)
    };
    match open(OFlag::O_DIRECT).and_then(|file| probe(file, bs)) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok((open(OFlag::empty())?, false)),
        Err(error) => Err(error),
    }
}

/// Some file systems accept the flag and refuse the I/O.
fn probe(file: File, bs: usize) -> io::Result<File> {
    let mut buffer = AlignedBuf::zeroed(bs);
    file.read_at(&mut buffer, 0)?;
    Ok(file)
}

/// The path, the cause and, where there is one, the cure.
pub(crate) fn explain(path: &Path, error: io::Error) -> Box<dyn Error + Send + Sync> {
    let cure = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; use less with --size 256M, or another place with --file PATH"
        }
        ErrorKind::FileTooLarge => "; use less with --size",
        ErrorKind::NotFound => "; its folder must exist",
        ErrorKind::PermissionDenied => {
            "; it must be readable, and writable where iobench fills or --rw writes"
        }
        ErrorKind::ResourceBusy => "; a mounted device is not written",
        _ => "",
    };
    format!("{}: {error}{cure}", path.display()).into()
}
