//! `copy`: copies a file with many requests in flight, past the page cache.
//!
//! ```text
//! cargo run --release --example copy -- SRC DST
//! ```
//!
//! The heart of it is [`Transfer`]: a stream that reads ahead, a stream that writes behind, and a loop between
//! them. The rest is what a copy owes its user, and [`copy`] lists it.

use std::error::Error;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, ErrorKind, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use kiocb::direct::DirectOptions;
use kiocb::stream::{StreamError, StreamOptions, StreamReader, StreamWriter};
use kiocb::{Aio, AlignedBuf, DirectFile};
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

  --depth N   pieces read ahead, and as many written behind, 1 to 65535 (default 16)
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
    /// Pieces that are read ahead, and as many that are written behind.
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
    cause: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path.display(), self.doing, self.cause)
    }
}

impl Error for Failure {}

/// For `map_err`.
fn failed(path: &Path, doing: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    let (path, doing) = (path.to_owned(), doing.into());
    move |error| {
        let cause = error.to_string();
        Failure { path, doing, cause }
    }
}

/// The same for the errors of a stream, which say themselves what it was doing.
fn stream_failed(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let inner: Option<&StreamError> = inner;
        let cause = inner.and_then(Error::source).map(ToString::to_string);
        Failure {
            path: path.to_owned(),
            doing: inner.map_or("copying".to_owned(), ToString::to_string),
            cause: cause.unwrap_or_else(|| error.to_string()),
        }
    }
}

/// Copies the file `from` to `to`, or into it where it is a directory. Blocks; `progress` hears how many bytes
/// of data, of how many, are through.
///
/// - The copy has exactly the length that the source had at the beginning, its holes and its permissions.
/// - It gets its name when it is complete and on stable storage, in one step, and replaces the file of that
///   name: `to` is always the old file, or none, or the whole new one, also when the process is killed.
/// - A file system that refuses direct I/O is served through the page cache, and a line on stderr says so.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    options: Options,
    progress: impl FnMut(u64, u64),
) -> Result<(), Failure> {
    let source = Place::source(from)?;
    let length = source.length()?;
    let permissions = source.permissions()?;
    let draft = Draft::create(&final_path(from, to)?)?;
    let block = source.block().max(draft.place.block());
    let parts = source.parts(length, block as u64)?;
    draft.reserve(&parts)?;

    let depth = options.depth.saturating_mul(2).min(65_535); // read ahead and written behind
    let aio = Aio::builder().depth(depth).thread_name("copy");
    let aio = aio.build().map_err(failed(from, "setting up kernel AIO"))?;
    let size = piece_size(options, length, block);
    let depth = (MEMORY / 2 / size).clamp(1, options.depth as usize);
    // Without reserving: the draft has done that.
    let streams = StreamOptions::new().depth(depth).block(size).preallocate(0);
    let transfer = Transfer::new(&aio, streams, &source, &draft.place)?;
    let writer = transfer.run(parts, length, size, progress)?;
    draft.finish(&aio, writer, permissions)
}

/// The stream that reads gets half of the memory, and the stream that writes the other half.
fn piece_size(options: Options, length: u64, block: usize) -> usize {
    let room = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .min(MEMORY / 2);
    options.piece.min(room).max(1).next_multiple_of(block)
}

/// A stream that reads ahead, and one that writes behind; the names are for messages.
struct Transfer<'a> {
    reader: StreamReader,
    writer: StreamWriter,
    from: &'a Path,
    to: &'a Path,
}

impl Transfer<'_> {
    fn new<'a>(
        aio: &Aio,
        streams: StreamOptions,
        source: &'a Place,
        target: &'a Place,
    ) -> Result<Transfer<'a>, Failure> {
        let (from, to) = (source.path.as_path(), target.path.as_path());
        let (reader, writer) = (source.file.clone(), target.file.clone());
        let reader = streams.reader(aio, reader).map_err(stream_failed(from))?;
        let writer = streams.writer(aio, writer).map_err(stream_failed(to))?;
        Ok(Transfer {
            reader,
            writer,
            from,
            to,
        })
    }

    /// Copies the parts of the file that hold data, and leaves holes between them.
    fn run(
        mut self,
        parts: Vec<Range<u64>>,
        length: u64,
        size: usize,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<StreamWriter, Failure> {
        let ends = |part: Range<u64>| part.start..part.end.min(length);
        let parts: Vec<_> = parts.into_iter().map(ends).collect();
        let total = parts.iter().map(|part| part.end - part.start).sum();
        let mut copied = 0;
        for part in parts {
            self.skip_to(part.start)?;
            let range = self.reader.set_range(part.clone());
            range.map_err(stream_failed(self.from))?;
            while self.reader.position() < part.end {
                copied += self.piece(part.end, size)?;
                progress(copied, total);
            }
        }
        self.skip_to(length)?;
        Ok(self.writer)
    }

    fn skip_to(&mut self, place: u64) -> Result<(), Failure> {
        let hole = place - self.writer.position();
        self.writer.skip(hole).map_err(stream_failed(self.to))
    }

    /// Copies what there is of a part of the file, at most a block of the streams.
    fn piece(&mut self, end: u64, size: usize) -> Result<u64, Failure> {
        let offset = self.reader.position();
        let piece = self.reader.fill_buf().map_err(stream_failed(self.from))?;
        let count = piece.len();
        if count == 0 {
            let doing = format!(
                "reading {} bytes at offset {offset}",
                (end - offset).min(size as u64)
            );
            let why = io::Error::other("the file ends before the buffer is full");
            return Err(failed(self.from, doing)(why));
        }
        self.writer
            .write_all(piece)
            .map_err(stream_failed(self.to))?;
        self.reader.consume(count);
        Ok(count as u64)
    }
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
    fn finish(
        self,
        aio: &Aio,
        writer: StreamWriter,
        permissions: Permissions,
    ) -> Result<(), Failure> {
        let path = self.place.path.clone();
        let permitted = writer.file().file().set_permissions(permissions);
        permitted.map_err(failed(&path, "setting its permissions"))?;
        let finished = writer.finish(); // with the length that it has to have
        finished.map_err(stream_failed(&path))?;
        self.name(&path)
            .map_err(failed(&path, "giving the copy its name"))?;

        let directory = directory_of(&path);
        let synced = File::open(directory).and_then(|directory| aio.fsync(&directory));
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

impl Place {
    /// What offsets, lengths and addresses have to be multiples of: a power of two.
    fn block(&self) -> usize {
        let offset = usize::try_from(self.file.offset_alignment()).expect("less than memory has");
        offset.max(self.file.memory_alignment()).next_power_of_two()
    }
}
