//! The files of a store, made and opened: `data` has the pages, `log` the log.
//!
//! A store is made under another name and gets its own when all of it is durable: a directory with a file `data`
//! in it is a store. One process at a time has it open.

use crate::Result;
use crate::log::{Place, Ring};
use crate::meta::Meta;
use crate::page::{self, Page};
use crate::tree::ROOT;
use kiocb::stream::StreamWriter;
use kiocb::{Aio, DirectFile};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// How a store is made; it stays so.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) page_size: usize,
    /// Of the log: each holds 512 pages.
    pub(crate) segments: u64,
}

/// How a store is run, which is chosen each time.
#[derive(Clone, Copy)]
pub(crate) struct Config {
    /// Pages in memory.
    pub(crate) frames: usize,
    /// Page writes at once.
    pub(crate) depth: usize,
    /// A checkpoint begins when the log has so many bytes since the last one.
    pub(crate) checkpoint_after: u64,
    pub(crate) log_sync: LogSync,
    /// Page writes are atomic where the file offers the size, and the log has no images then.
    pub(crate) atomic: bool,
    /// The log gets all of a page when it changes first after a checkpoint.
    pub(crate) images: bool,
    pub(crate) fault: Option<Fault>,
}

/// How a batch of the log is made durable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LogSync {
    /// One write with the flag `DSYNC`.
    Dsync,
    /// A write, and then an fdatasync.
    Fdatasync,
    /// Not at all: a fault.
    None,
}

/// A fault that is planted: `torture` has to find it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    LogSync,
    CheckpointSync,
    PageBeforeLog,
    Images,
}

impl Config {
    pub(crate) fn break_by(&mut self, fault: Fault) {
        self.fault = Some(fault);
        match fault {
            Fault::LogSync => self.log_sync = LogSync::None,
            Fault::Images => self.images = false,
            Fault::CheckpointSync | Fault::PageBeforeLog => {}
        }
    }
}

pub(crate) struct Files {
    pub(crate) data: Arc<DirectFile>,
    pub(crate) log: Arc<DirectFile>,
    pub(crate) page_size: usize,
    _lock: Flock<File>,
}

impl Files {
    /// Opens a store, or says why it can't, and what it says of itself.
    pub(crate) fn open(dir: &Path) -> Result<(Files, Meta)> {
        let lock = lock(dir)?;
        let data = open(&dir.join("data"), false)?;
        let read =
            |bytes: &mut [u8], offset| Ok(read_at(data.file(), bytes, offset)? == bytes.len());
        let meta = Meta::find(read).map_err(|error| format!("{}: {error}", dir.display()))?;
        let log = open(&dir.join("log"), false)?;
        let (length, ring) = (log.len()?, meta.ring.bytes());
        if length != ring {
            let dir = dir.display();
            return Err(format!(
                "{dir}: the log has {length} bytes, and {ring} belong to the store"
            )
            .into());
        }
        let files = Files {
            data: Arc::new(data),
            log: Arc::new(log),
            page_size: meta.page_size,
            _lock: lock,
        };
        Ok((files, meta))
    }

    /// Makes an empty store.
    pub(crate) fn create(dir: &Path, shape: Shape) -> Result<()> {
        fs::create_dir_all(dir)?;
        let lock = lock(dir)?;
        let (temporary, name) = (dir.join("data.new"), dir.join("data"));
        if name.exists() || dir.join("log").exists() && !temporary.exists() {
            return Err(format!("{}: there is a store, or a part of one", dir.display()).into());
        }
        let data = open(&temporary, true)?;
        let ring = Ring {
            store: identity()?,
            segment: 512 * shape.page_size as u64,
            segments: shape.segments,
        };
        zero(open(&dir.join("log"), true)?, ring.bytes())?;
        write_first_pages(&data, shape, ring)?;
        fs::rename(temporary, name)?;
        Ok(lock.sync_all()?)
    }

    /// Whether a page is written whole or not at all.
    pub(crate) fn writes_atomically(&self) -> bool {
        let atomic = self.data.atomic_write();
        atomic.is_some_and(|atomic| atomic.fits(self.page_size, 0))
    }
}

pub(crate) fn exists(dir: &Path) -> bool {
    dir.join("data").exists()
}

/// Reserves the first so many bytes; where the file system can't, they are a hole.
pub(crate) fn reserve(file: &DirectFile, bytes: u64) -> io::Result<()> {
    match file.preallocate(bytes) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let length = file.len()?.max(bytes);
            file.file().set_len(length)
        }
        result => result,
    }
}

/// As many bytes as there are.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn open(path: &Path, new: bool) -> Result<DirectFile> {
    let mut options = DirectFile::options();
    options.read(true).write(true).create(new).truncate(new);
    let file = options
        .open_or_buffered(path)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if !file.is_direct() && path.ends_with("data") {
        eprintln!(
            "pagestore: {}: no direct I/O here, going through the page cache",
            path.display()
        );
    }
    if file.offset_alignment() > 4096 {
        let (path, unit) = (path.display(), file.offset_alignment());
        return Err(format!("{path}: can only be written in units of {unit} bytes").into());
    }
    Ok(file)
}

fn lock(dir: &Path) -> Result<Flock<File>> {
    let file = File::open(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        format!("{}: is open in another process ({error})", dir.display()).into()
    })
}

/// A number that no other store has.
fn identity() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Writes all of the log once: a write into space that is only reserved would cost a change of metadata.
fn zero(log: DirectFile, bytes: u64) -> Result<()> {
    let mut writer = StreamWriter::new(&Aio::global()?, log)?;
    io::copy(&mut io::repeat(0).take(bytes), &mut writer)?;
    writer.finish()?;
    Ok(())
}

/// Two meta pages and an empty root.
fn write_first_pages(data: &DirectFile, shape: Shape, ring: Ring) -> Result<()> {
    let mut meta = Meta {
        page_size: shape.page_size,
        ring,
        sequence: 0,
        redo: Place {
            position: 0,
            chain: 0,
        },
        last: 0,
        pages: ROOT + 1,
    };
    let mut bytes = data.buffer(shape.page_size * 3);
    let (first, rest) = bytes.split_at_mut(shape.page_size);
    let (second, root) = rest.split_at_mut(shape.page_size);
    meta.write_to(first);
    meta.sequence = 1;
    meta.write_to(second);
    let mut root = Page(root);
    root.format(ROOT, 0, 0);
    root.seal();
    reserve(data, page::offset(256, shape.page_size))?;
    data.file().write_all_at(&bytes, 0)?;
    Ok(data.file().sync_all()?)
}
