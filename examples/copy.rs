//! `copy`: copies a file with many requests in flight, past the page cache.
//!
//! ```text
//! cargo run --release --example copy -- SRC DST
//! ```
//!
//! The heart of it is [`Copying`]. What holds data is cut into pieces, and each of a few buffers goes round
//! on its own: read a piece; in the callback, write it; in that one's callback, read the next. There is no
//! loop over requests, no thread and no queue: when nothing is in flight any more, everything is copied. The
//! rest is what a copy owes its user, and [`copy`] lists it.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use kiocb::buf::{IoBuf, IoBufMut, Slice};
use kiocb::direct::DirectOptions;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AlignedBuf, Completion, DirectFile};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, fallocate};
use nix::unistd::{Whence, linkat, lseek};
use tempfile::TempPath;

/// Most bytes in all buffers together.
const MEMORY: usize = 256 << 20;

const HELP: &str = "\
Usage: copy [--depth N] [--bs SIZE] SRC DST

Copies the file or block device SRC to the file DST, or into the directory DST, with direct I/O and many
requests in flight.

  --depth N   pieces on their way at once, 1 to 65535 (default 16)
  --bs SIZE   bytes in a piece, such as 64k or 1M (default 256k)

All buffers together take at most 256 MiB, and none is longer than SRC: what N and SIZE ask for beyond that is
cut down. Holes in SRC are holes in the copy.

DST gets its name when it is complete and on stable storage: it is never seen half-written. A file that had the
name before is replaced, not written to:
  - DST may be read-only, or running. What counts are the permissions of its directory.
  - Another hard link to the old file, and a program that has it open, keep the old content.
Symbolic links are followed: where SRC is one, the file it points to is copied; where DST is one, the file it
points to is replaced and the link stays. A link DST that points to nothing is refused. The copy has the
permissions of SRC (no set-user-id), the owner of the process, and no extended attributes.";

fn main() -> ExitCode {
    match arguments(lexopt::Parser::from_env()) {
        Ok(Some(arguments)) => copy_with_bar(arguments),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => complain(&error, 2),
    }
}

fn copy_with_bar((options, from, to): (Options, PathBuf, PathBuf)) -> ExitCode {
    let style = "[{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style).expect("a valid template");
    // Draws nothing where stderr is no terminal.
    let bar = ProgressBar::no_length().with_style(style.progress_chars("=> "));
    let moving = bar.clone();
    let copied = copy(&from, &to, options, move |done, total| {
        moving.set_length(total);
        moving.set_position(done);
    });
    bar.finish_and_clear();
    match copied {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure, 1),
    }
}

fn complain(error: &dyn fmt::Display, code: u8) -> ExitCode {
    eprintln!("copy: {error}");
    ExitCode::from(code)
}

/// How to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Pieces on their way at once.
    pub(crate) depth: u32,
    /// Bytes in a piece; rounded up to whole blocks. Both are less where memory or the file ends before.
    pub(crate) piece: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            depth: 16,
            piece: 256 << 10,
        }
    }
}

fn arguments(
    mut parser: lexopt::Parser,
) -> Result<Option<(Options, PathBuf, PathBuf)>, lexopt::Error> {
    use lexopt::{Arg, ValueExt};
    let mut options = Options::default();
    let mut paths = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("depth") => options.depth = parser.value()?.parse_with(depth)?,
            Arg::Long("bs") => options.piece = parser.value()?.parse_with(size)?,
            Arg::Short('h') | Arg::Long("help") => {
                println!("{HELP}");
                return Ok(None);
            }
            Arg::Value(path) => paths.push(PathBuf::from(path)),
            other => return Err(other.unexpected()),
        }
    }
    match <[PathBuf; 2]>::try_from(paths) {
        Ok([from, to]) => Ok(Some((options, from, to))),
        Err(_) => Err("give one SRC and one DST; --help says more".into()),
    }
}

/// What a kernel context may be made for.
fn depth(text: &str) -> Result<u32, &'static str> {
    let depth = text
        .parse()
        .ok()
        .filter(|depth| (1..=65_535).contains(depth));
    depth.ok_or("--depth is a whole number, 1 to 65535")
}

/// `4096`, `64k`, `1M`: powers of 1024, and at least 1.
fn size(text: &str) -> Result<usize, &'static str> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => Some(1),
        "k" => Some(1 << 10),
        "m" => Some(1 << 20),
        "g" => Some(1 << 30),
        _ => None,
    };
    let number: Option<usize> = digits.parse().ok();
    unit.zip(number)
        .and_then(|(unit, number)| number.checked_mul(unit))
        .filter(|&bytes| bytes > 0)
        .ok_or("--bs is a whole number above 0, perhaps with k, M or G")
}

/// Why there is no copy: which file, what was being done with it and where, and the cause.
#[derive(Debug)]
pub(crate) struct Failure {
    path: PathBuf,
    doing: String,
    cause: io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path.display(), self.doing, self.cause)
    }
}

impl std::error::Error for Failure {}

/// For `map_err`.
fn failed(path: &Path, doing: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    let (path, doing) = (path.to_owned(), doing.into());
    move |cause| Failure { path, doing, cause }
}

/// Copies the file `from` to `to`, or into it where it is a directory. Blocks; `progress` hears on the
/// completion thread how many bytes of data, of how many, are through.
///
/// - The copy has exactly the length that the source had at the beginning, its holes and its permissions.
/// - It gets its name when it is complete and on stable storage, in one step, and replaces the file of that
///   name: `to` is always the old file, or none, or the whole new one, also when the process is killed.
/// - A file system that refuses direct I/O is served through the page cache, and a line on stderr says so.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    options: Options,
    progress: impl Fn(u64, u64) + Send + Sync + 'static,
) -> Result<(), Failure> {
    let source = Place::source(from)?;
    let length = source.length()?;
    let permissions = source.permissions()?;
    let draft = Draft::create(&final_path(from, to)?)?;
    let block = source.block().max(draft.place.block());
    let parts = source.parts(length, block as u64)?;
    draft.reserve(&parts)?;

    let aio = Aio::builder().depth(options.depth).thread_name("copy");
    let aio = aio.build().map_err(failed(from, "setting up kernel AIO"))?;
    let target = draft.place.clone();
    let copying = Copying::new(
        aio.clone(),
        source,
        target,
        parts,
        length,
        options.piece,
        progress,
    );
    Arc::new(copying).run(options.depth)?;
    draft.finish(&aio, length, permissions)
}

/// Where the copy will be: `to`, or what that links to, or the file in it that is called as the source is.
fn final_path(from: &Path, to: &Path) -> Result<PathBuf, Failure> {
    let into = from.file_name().filter(|_| to.is_dir());
    let to = into.map_or_else(|| to.to_owned(), |name| to.join(name));
    let refuse = |why| Err(failed(&to, "replacing")(io::Error::other(why)));
    let (Ok(source), Ok(old)) = (fs::metadata(from), fs::metadata(&to)) else {
        return match to.is_symlink() {
            true => refuse("it is a link to nothing"),
            false => Ok(to), // nothing there yet
        };
    };
    if (source.dev(), source.ino()) == (old.dev(), old.ino()) {
        return refuse("it is the source itself");
    }
    if !old.is_file() {
        return refuse("it is not a regular file");
    }
    fs::canonicalize(&to).map_err(failed(&to, "following the link"))
}

fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

/// An open file, and the name that messages have for it.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    file: Arc<DirectFile>,
}

impl Place {
    fn new(file: DirectFile, path: &Path) -> Place {
        if !file.is_direct() {
            let path = path.display();
            eprintln!("copy: {path}: no direct I/O here, going through the page cache");
        }
        Place {
            path: path.to_owned(),
            file: Arc::new(file),
        }
    }

    fn source(path: &Path) -> Result<Place, Failure> {
        // Before it is opened: opening a pipe waits for its writer, and opening a device may do anything.
        let kind = fs::metadata(path)
            .map_err(failed(path, "opening"))?
            .file_type();
        if kind.is_dir() {
            return Err(failed(path, "opening")(ErrorKind::IsADirectory.into()));
        }
        if !kind.is_file() && !kind.is_block_device() {
            let why = io::Error::other("not a regular file or block device");
            return Err(failed(path, "opening")(why));
        }
        let file = DirectFile::options().read(true).open_or_buffered(path);
        file.map(|file| Place::new(file, path))
            .map_err(failed(path, "opening"))
    }

    fn length(&self) -> Result<u64, Failure> {
        let length = self.file.len();
        let length = length.map_err(failed(&self.path, "asking for its length"))?;
        if length == 0 {
            self.check_it_is_empty()?;
        }
        Ok(length)
    }

    /// The files that the kernel makes up while they are read (/proc) have bytes and no length.
    fn check_it_is_empty(&self) -> Result<(), Failure> {
        let mut first = AlignedBuf::with_alignment(self.block(), self.block());
        let got = self.file.file().read_at(&mut first, 0);
        if got.map_err(failed(&self.path, "reading its first byte"))? == 0 {
            return Ok(());
        }
        let why = io::Error::other("it has bytes and no length: only reading tells where it ends");
        Err(failed(&self.path, "cutting it into pieces")(why))
    }

    /// Where it holds data, in whole blocks, ascending; between them are holes, which read as zeroes.
    fn parts(&self, length: u64, block: u64) -> Result<Vec<Range<u64>>, Failure> {
        let mut parts: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        while at < length {
            let start = match self.seek(at, Whence::SeekData) {
                Err(Errno::ENXIO) => break,   // a hole up to the end
                Err(Errno::EINVAL) => Ok(at), // a device, which knows of no holes
                data => data.map_err(io::Error::from),
            };
            let start = start.map_err(failed(&self.path, "looking for its holes"))?;
            let hole = self.seek(start, Whence::SeekHole).unwrap_or(length);
            at = hole.max(start + 1).next_multiple_of(block);
            match parts.last_mut() {
                Some(last) if last.end > start => last.end = at,
                _ => parts.push(start - start % block..at),
            }
        }
        Ok(parts)
    }

    fn seek(&self, from: u64, whence: Whence) -> nix::Result<u64> {
        lseek(&*self.file, from.cast_signed(), whence).map(i64::cast_unsigned)
    }

    /// Without set-user-id and its kin: the copy may have another owner.
    fn permissions(&self) -> Result<Permissions, Failure> {
        let metadata = self.file.file().metadata();
        let metadata = metadata.map_err(failed(&self.path, "asking for its permissions"))?;
        Ok(Permissions::from_mode(metadata.mode() & 0o777))
    }
}

/// The copy before it has its name.
#[derive(Debug)]
struct Draft {
    place: Place,
    /// The name it has meanwhile, removed when dropped. `None`: it has no name, and not even a killed process
    /// leaves it behind.
    temporary: Option<TempPath>,
}

impl Draft {
    fn create(to: &Path) -> Result<Draft, Failure> {
        Draft::without_name(to).map_or_else(|| Draft::with_name(to), Ok)
    }

    /// `None` where the file system can't, or where there is no /proc, through which the file would get its
    /// name.
    fn without_name(to: &Path) -> Option<Draft> {
        let mut options = new_file();
        let options = options.custom_flags(libc::O_TMPFILE);
        let file = options.open_or_buffered(directory_of(to)).ok()?;
        proc_path(&file).exists().then(|| Draft {
            place: Place::new(file, to),
            temporary: None,
        })
    }

    fn with_name(to: &Path) -> Result<Draft, Failure> {
        let open = |name: &Path| new_file().create_new(true).open_or_buffered(name);
        let made = aside(to, open).map_err(failed(to, "creating"))?;
        let (file, temporary) = made.into_parts();
        Ok(Draft {
            place: Place::new(file, to),
            temporary: Some(temporary),
        })
    }

    /// Space for all data. Writes that make a file longer would be done inside `io_submit` by some file
    /// systems, one by one; and if there is no room, now is the time to say so.
    fn reserve(&self, parts: &[Range<u64>]) -> Result<(), Failure> {
        for part in parts {
            let (offset, bytes) = (
                part.start.cast_signed(),
                (part.end - part.start).cast_signed(),
            );
            match fallocate(&*self.place.file, FallocateFlags::empty(), offset, bytes) {
                Err(Errno::EOPNOTSUPP) => break, // the file system can't: the writes will tell
                reserved => reserved.map_err(io::Error::from),
            }
            .map_err(failed(&self.place.path, format!("reserving {bytes} bytes")))?;
        }
        Ok(())
    }

    /// Makes it the file that was asked for, on stable storage, and gives it its name.
    fn finish(self, aio: &Aio, length: u64, permissions: Permissions) -> Result<(), Failure> {
        let Place { path, file } = self.place.clone();
        let exact = file.file().set_len(length);
        exact.map_err(failed(&path, "setting its length"))?;
        let permitted = file.file().set_permissions(permissions);
        permitted.map_err(failed(&path, "setting its permissions"))?;
        sync(aio, file).map_err(failed(&path, "syncing"))?;
        self.name(&path)
            .map_err(failed(&path, "giving the copy its name"))?;

        let directory = directory_of(&path);
        let synced = File::open(directory).and_then(|directory| sync(aio, directory));
        synced.map_err(failed(directory, "syncing"))
    }

    fn name(mut self, path: &Path) -> io::Result<()> {
        let temporary = match self.temporary.take() {
            Some(temporary) => temporary,
            None => match self.link(path) {
                // A link does not replace a file; renaming one does.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    aside(path, |name| self.link(name))?.into_temp_path()
                }
                linked => return linked,
            },
        };
        temporary.persist(path).map_err(|refused| refused.error)
    }

    fn link(&self, path: &Path) -> io::Result<()> {
        let from = proc_path(&self.place.file);
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        Ok(linkat(AT_FDCWD, &from, AT_FDCWD, path, follow)?)
    }
}

fn new_file() -> DirectOptions {
    let mut options = DirectFile::options();
    options.read(true).write(true).mode(0o600);
    options
}

/// Where an open file can be found without a name.
fn proc_path(file: &DirectFile) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Makes something under a temporary name beside `path`.
fn aside<R>(
    path: &Path,
    make: impl FnMut(&Path) -> io::Result<R>,
) -> io::Result<tempfile::NamedTempFile<R>> {
    let mut names = tempfile::Builder::new();
    names.prefix(".copy-").make_in(directory_of(path), make)
}

/// `fsync`, by the same way as everything else, and waited for.
fn sync(aio: &Aio, file: impl AsFd + Send + 'static) -> io::Result<()> {
    let done = aio.alloc().init_fsync(file).wait()?;
    done.result.map(|_| ())
}

/// A copy on its way: what all its requests share.
struct Copying {
    aio: Aio,
    source: Place,
    target: Place,
    /// What offsets, lengths and addresses are multiples of, so that both files take them.
    block: usize,
    /// Bytes in a buffer: whole blocks.
    size: usize,
    /// Bytes of data, in all.
    total: u64,
    /// Those that no buffer has begun with.
    pieces: Mutex<Box<dyn Iterator<Item = Piece> + Send>>,
    copied: AtomicU64,
    failure: Mutex<Option<Failure>>,
    progress: Box<dyn Fn(u64, u64) + Send + Sync>,
}

/// A part of the file on its way through one buffer, being read or being written.
#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: u64,
    len: usize,
}

/// The pieces of all parts, ascending. The last one ends with the file, perhaps inside a block.
fn cut(parts: Vec<Range<u64>>, length: u64, size: usize) -> impl Iterator<Item = Piece> + Send {
    parts.into_iter().flat_map(move |part| {
        let end = part.end.min(length);
        (part.start..end).step_by(size).map(move |offset| {
            let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
            let len = left.min(size);
            Piece { offset, len }
        })
    })
}

/// What comes back to the callbacks.
type Done = Completion<Arc<DirectFile>, Slice<AlignedBuf>>;

impl Copying {
    fn new(
        aio: Aio,
        source: Place,
        target: Place,
        parts: Vec<Range<u64>>,
        length: u64,
        piece: usize,
        progress: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Copying {
        let block = source.block().max(target.block());
        let room = usize::try_from(length).unwrap_or(usize::MAX).min(MEMORY);
        let size = piece.min(room).max(1).next_multiple_of(block);
        let bytes = |part: &Range<u64>| part.end.min(length) - part.start;
        Copying {
            aio,
            source,
            target,
            block,
            size,
            total: parts.iter().map(bytes).sum(),
            pieces: Mutex::new(Box::new(cut(parts, length, size))),
            copied: AtomicU64::new(0),
            failure: Mutex::new(None),
            progress: Box::new(progress),
        }
    }

    /// Sets buffers going, and waits until nothing is in flight any more.
    fn run(self: Arc<Self>, depth: u32) -> Result<(), Failure> {
        for _ in 0..(MEMORY / self.size).clamp(1, depth as usize) {
            let Some(piece) = self.next() else { break };
            match AlignedBuf::try_with_alignment(self.size, self.block) {
                Ok(buf) => Arc::clone(&self).read(piece, buf),
                Err(none) => self.fail(&self.source, "reading", piece, none),
            }
        }
        let drained = self.aio.drain();
        drained.map_err(failed(&self.source.path, "copying it"))?;
        match lock(&self.failure).take() {
            Some(failure) => Err(failure),
            None => self.check_all_is_copied(),
        }
    }

    /// A callback that panicked would have lost its piece.
    fn check_all_is_copied(&self) -> Result<(), Failure> {
        let (copied, total) = (self.copied.load(Ordering::Relaxed), self.total);
        if copied == total {
            return Ok(());
        }
        let why = io::Error::other(format!("{copied} of {total} bytes arrived"));
        Err(failed(&self.target.path, "writing it")(why))
    }

    /// What to go on with; nothing after a failure.
    fn next(&self) -> Option<Piece> {
        let failed = lock(&self.failure).is_some();
        lock(&self.pieces).next().filter(|_| !failed)
    }

    fn read(self: Arc<Self>, piece: Piece, buf: AlignedBuf) {
        let copying = Arc::clone(&self);
        let file = Arc::clone(&self.source.file);
        let blocks = buf.buf_slice_mut(..self.whole_blocks(piece));
        let reading = self.aio.alloc().init_rw(file, Read, blocks, piece.offset);
        let reading = reading.read_exact();
        let reading = reading.init_callback(move |done| copying.was_read(piece, done));
        if let Err(refused) = reading.submit() {
            self.fail(&self.source, "reading", piece, refused.into());
        }
    }

    fn was_read(self: Arc<Self>, piece: Piece, done: Done) {
        match done.result {
            Err(cause) if !self.is_the_end(piece, &cause) => {
                self.fail(&self.source, "reading", piece, cause);
            }
            _ => {
                let mut buf = done.buf.into_inner();
                // Direct I/O writes whole blocks; what is too much of the last one is cut off at the end.
                buf[piece.len..].fill(0);
                self.write(piece, buf);
            }
        }
    }

    /// Whether all of the piece was read, and what lacks is the rest of the file's last block.
    fn is_the_end(&self, piece: Piece, cause: &io::Error) -> bool {
        let ends_inside_a_block = piece.len < self.whole_blocks(piece);
        let end = piece.offset + piece.len as u64;
        cause.kind() == ErrorKind::UnexpectedEof
            && ends_inside_a_block
            && self.source.file.len().is_ok_and(|length| length >= end)
    }

    fn write(self: Arc<Self>, piece: Piece, buf: AlignedBuf) {
        let copying = Arc::clone(&self);
        let file = Arc::clone(&self.target.file);
        let blocks = buf.buf_slice(..self.whole_blocks(piece));
        let writing = self.aio.alloc().init_rw(file, Write, blocks, piece.offset);
        let writing = writing.write_all();
        let writing = writing.init_callback(move |done| copying.was_written(piece, done));
        if let Err(refused) = writing.submit() {
            self.fail(&self.target, "writing", piece, refused.into());
        }
    }

    fn was_written(self: Arc<Self>, piece: Piece, done: Done) {
        if let Err(cause) = done.result {
            return self.fail(&self.target, "writing", piece, cause);
        }
        let len = piece.len as u64;
        let copied = self.copied.fetch_add(len, Ordering::Relaxed) + len;
        (self.progress)(copied, self.total);
        if let Some(next) = self.next() {
            self.read(next, done.buf.into_inner());
        }
    }

    /// The length of a piece up to the end of a block, where direct I/O wants that.
    fn whole_blocks(&self, piece: Piece) -> usize {
        piece.len.next_multiple_of(self.block)
    }

    /// Keeps the first failure. No piece is begun after it.
    fn fail(&self, place: &Place, verb: &str, piece: Piece, cause: io::Error) {
        let doing = format!("{verb} {} bytes at offset {}", piece.len, piece.offset);
        lock(&self.failure).get_or_insert_with(|| failed(&place.path, doing)(cause));
    }
}

/// A callback that panicked while it held a lock left nothing half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    /// What offsets, lengths and addresses have to be multiples of: a power of two.
    fn block(&self) -> usize {
        let offset = usize::try_from(self.file.offset_alignment()).expect("less than memory has");
        offset.max(self.file.memory_alignment()).next_power_of_two()
    }
}
