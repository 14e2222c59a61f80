//! `copy`: copies a file with many requests in flight, past the page cache.
//!
//! ```text
//! cargo run --release --example copy -- SRC DST
//! ```
//!
//! The heart of it is [`Copying`]. The file is cut into pieces, and each of a few buffers goes round on its
//! own: read a piece; in the callback, write it; in that one's callback, read the next. There is no loop over
//! requests, no thread and no queue: when nothing is in flight any more, everything is copied. The rest is
//! what a copy owes its user, and [`copy`] lists it.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use kiocb::buf::{IoBuf, IoBufMut, Slice};
use kiocb::direct::DirectOptions;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AlignedBuf, Completion, DirectFile};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;
use tempfile::TempPath;

const HELP: &str = "\
Usage: copy [--depth N] [--bs SIZE] SRC DST

Copies the file SRC to DST, or into the directory DST, with direct I/O and many requests in flight.

  --depth N   pieces on their way at once (default 16)
  --bs SIZE   bytes in a piece, such as 64k or 1M (default 256k)

DST gets its name when it is complete and on stable storage: it is never seen half-written.";

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
    /// Bytes in a piece; rounded up to whole blocks.
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
            Arg::Long("depth") => options.depth = parser.value()?.parse()?,
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
        .ok_or("a size is a number above 0, perhaps with k, M or G")
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
/// completion thread how many bytes, of how many, are through.
///
/// - The copy has exactly the length that the source had at the beginning, and its permissions.
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
    let draft = Draft::create(&final_path(from, to)?)?;
    draft.reserve(length)?;

    let aio = Aio::builder().depth(options.depth).thread_name("copy");
    let aio = aio.build().map_err(failed(from, "setting up kernel AIO"))?;
    let permissions = source.permissions()?;
    let target = draft.place.clone();
    let copying = Copying::new(aio.clone(), source, target, length, options.piece, progress);
    Arc::new(copying).run(options.depth)?;
    draft.finish(&aio, length, permissions)
}

/// Where the copy will be: `to`, or what that links to, or the file in it that is called as the source is.
fn final_path(from: &Path, to: &Path) -> Result<PathBuf, Failure> {
    let into = from.file_name().filter(|_| to.is_dir());
    let to = into.map_or_else(|| to.to_owned(), |name| to.join(name));
    let (Ok(source), Ok(old)) = (fs::metadata(from), fs::metadata(&to)) else {
        return Ok(to); // nothing there yet
    };
    let refuse = |why| Err(failed(&to, "replacing")(io::Error::other(why)));
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
        let kind = fs::metadata(path).map_err(failed(path, "opening"))?;
        if kind.is_dir() {
            return Err(failed(path, "opening")(ErrorKind::IsADirectory.into()));
        }
        let file = DirectFile::options().read(true).open_or_buffered(path);
        file.map(|file| Place::new(file, path))
            .map_err(failed(path, "opening"))
    }

    fn length(&self) -> Result<u64, Failure> {
        let length = self.file.len();
        let length = length.map_err(failed(&self.path, "asking for its length"))?;
        if length == 0 && self.has_bytes() {
            let why = "only the end tells where it is: it has bytes and no length";
            return Err(failed(&self.path, "cutting it into pieces")(
                io::Error::other(why),
            ));
        }
        Ok(length)
    }

    /// As the files have that the kernel makes up while they are read (/proc).
    fn has_bytes(&self) -> bool {
        let mut byte = [0];
        let got = self.file.file().read_at(&mut byte, 0);
        got.is_ok_and(|got| got > 0)
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

    /// Space for all of it. Writes that make a file longer would be done inside `io_submit` by some file
    /// systems, one by one; and if there is no room, now is the time to say so.
    fn reserve(&self, length: u64) -> Result<(), Failure> {
        let length = self.place.file.round_up(length).unwrap_or(length);
        match self.place.file.preallocate(length) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            reserved => reserved.map_err(failed(
                &self.place.path,
                format!("reserving {length} bytes"),
            )),
        }
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
    length: u64,
    /// What offsets, lengths and addresses are multiples of, so that both files take them.
    block: usize,
    /// Bytes in a piece: whole blocks.
    piece: usize,
    /// Where the next piece begins.
    next: AtomicU64,
    copied: AtomicU64,
    failure: Mutex<Option<Failure>>,
    progress: Box<dyn Fn(u64, u64) + Send + Sync>,
}

/// A part of the file on its way through one buffer, being read or being written.
#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: u64,
    len: usize,
    /// Bytes that were read, or written, already: a transfer may come back short. Whole blocks, or all.
    done: usize,
}

/// What comes back to the callbacks.
type Done = Completion<Arc<DirectFile>, Slice<AlignedBuf>>;

impl Copying {
    fn new(
        aio: Aio,
        source: Place,
        target: Place,
        length: u64,
        piece: usize,
        progress: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Copying {
        let block = source.block().max(target.block());
        Copying {
            aio,
            source,
            target,
            length,
            block,
            piece: piece.next_multiple_of(block),
            next: AtomicU64::new(0),
            copied: AtomicU64::new(0),
            failure: Mutex::new(None),
            progress: Box::new(progress),
        }
    }

    /// Sets as many buffers going as there may be, and waits until nothing is in flight any more.
    fn run(self: Arc<Self>, depth: u32) -> Result<(), Failure> {
        let pieces = self.length.div_ceil(self.piece as u64);
        let buffers = (0..pieces.min(depth.into()))
            .map(|_| AlignedBuf::try_with_alignment(self.piece, self.block))
            .collect::<io::Result<Vec<_>>>();
        let buffers = buffers.map_err(failed(&self.source.path, "reading it"))?;
        for buf in buffers {
            Arc::clone(&self).begin(buf);
        }
        let silent = self.aio.drain();
        silent.map_err(failed(&self.source.path, "copying it"))?;
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match failure.take() {
            Some(failure) => Err(failure),
            None => self.check_all_is_copied(),
        }
    }

    /// A callback that panicked would have lost its piece.
    fn check_all_is_copied(&self) -> Result<(), Failure> {
        let copied = self.copied.load(Ordering::Relaxed);
        if copied == self.length {
            return Ok(());
        }
        let why = io::Error::other(format!("{copied} of {} bytes arrived", self.length));
        Err(failed(&self.target.path, "writing it")(why))
    }

    /// Goes on with the next piece, if there is one.
    fn begin(self: Arc<Self>, buf: AlignedBuf) {
        let offset = self.next.fetch_add(self.piece as u64, Ordering::Relaxed);
        let left = self.length.saturating_sub(offset);
        if left == 0 || self.has_failed() {
            return; // the buffer has done its work
        }
        let len = usize::try_from(left).map_or(self.piece, |left| left.min(self.piece));
        self.read(
            Piece {
                offset,
                len,
                done: 0,
            },
            buf,
        );
    }

    fn read(self: Arc<Self>, piece: Piece, buf: AlignedBuf) {
        let copying = Arc::clone(&self);
        let reading = self.aio.alloc().init_rw(
            Arc::clone(&self.source.file),
            Read,
            buf.buf_slice_mut(self.rest_of(piece)),
            piece.offset + piece.done as u64,
        );
        let reading = reading.init_callback(move |done| copying.was_read(piece, done));
        if let Err(refused) = reading.submit() {
            self.fail(&self.source, "reading", piece, refused.into());
        }
    }

    fn was_read(self: Arc<Self>, piece: Piece, done: Done) {
        let mut buf = done.buf.into_inner();
        match self.advance(piece, done.result) {
            Err(cause) => self.fail(&self.source, "reading", piece, cause),
            Ok(piece) if piece.done < piece.len => self.read(piece, buf),
            Ok(piece) => {
                // Direct I/O writes whole blocks; what is too much of the last one is cut off at the end.
                buf[piece.len..].fill(0);
                self.write(Piece { done: 0, ..piece }, buf);
            }
        }
    }

    fn write(self: Arc<Self>, piece: Piece, buf: AlignedBuf) {
        let copying = Arc::clone(&self);
        let writing = self.aio.alloc().init_rw(
            Arc::clone(&self.target.file),
            Write,
            buf.buf_slice(self.rest_of(piece)),
            piece.offset + piece.done as u64,
        );
        let writing = writing.init_callback(move |done| copying.was_written(piece, done));
        if let Err(refused) = writing.submit() {
            self.fail(&self.target, "writing", piece, refused.into());
        }
    }

    fn was_written(self: Arc<Self>, piece: Piece, done: Done) {
        let buf = done.buf.into_inner();
        match self.advance(piece, done.result) {
            Err(cause) => self.fail(&self.target, "writing", piece, cause),
            Ok(piece) if piece.done < piece.len => self.write(piece, buf),
            Ok(piece) => {
                let bytes = piece.len as u64;
                let copied = self.copied.fetch_add(bytes, Ordering::Relaxed) + bytes;
                (self.progress)(copied, self.length);
                self.begin(buf);
            }
        }
    }

    /// What of the buffer is still to be transferred: up to the end of a block, where direct I/O wants that.
    fn rest_of(&self, piece: Piece) -> std::ops::Range<usize> {
        piece.done..piece.len.next_multiple_of(self.block)
    }

    /// The piece with what was transferred. The rest of a short transfer begins at a block again.
    fn advance(&self, piece: Piece, result: io::Result<usize>) -> io::Result<Piece> {
        let bytes = match result {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(piece), // again
            result => result?,
        };
        let through = piece.done + bytes;
        let done = match through < piece.len {
            true => through - through % self.block,
            false => piece.len,
        };
        if done == piece.done {
            let asked = piece.len - piece.done;
            let text = format!("only {bytes} of {asked} bytes were transferred");
            return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
        }
        Ok(Piece { done, ..piece })
    }

    fn has_failed(&self) -> bool {
        let failure = self.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Keeps the first failure. No piece is begun after it.
    fn fail(&self, place: &Place, verb: &str, piece: Piece, cause: io::Error) {
        let (bytes, offset) = (piece.len - piece.done, piece.offset + piece.done as u64);
        let doing = format!("{verb} {bytes} bytes at offset {offset}");
        let failure = self.failure.lock();
        failure
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| failed(&place.path, doing)(cause));
    }
}

impl Place {
    /// What offsets, lengths and addresses have to be multiples of: a power of two.
    fn block(&self) -> usize {
        let offset = usize::try_from(self.file.offset_alignment()).expect("less than memory has");
        offset.max(self.file.memory_alignment()).next_power_of_two()
    }
}
