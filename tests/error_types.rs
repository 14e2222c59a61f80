//! What each error type says: its text, what is behind it, its errno, and what it gives back.

mod common;
#[path = "kit/sources.rs"]
mod sources;

use common::*;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AioError, CompletionError, Iocb, PollFlags, SetupError, SubmitError};
use std::error::Error;
use std::io;

/// The text of an error and of all that is behind it.
fn texts(error: &(dyn Error + 'static)) -> Vec<String> {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.map(ToString::to_string).collect()
}

/// Printing the whole chain, as a program does that reports an error, says nothing twice.
fn assert_says_nothing_twice(error: &(dyn Error + 'static)) {
    let texts = texts(error);
    assert!(!texts[0].is_empty());
    for (at, text) in texts.iter().enumerate() {
        let repeated = texts[..at].iter().find(|before| before.contains(&**text));
        assert_eq!(repeated, None, "{texts:?}");
    }
}

/// An error with another one behind it.
#[derive(Debug)]
struct Outer(io::Error);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("outer")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn deep() -> io::Error {
    io::Error::other(Outer(io::Error::from_raw_os_error(libc::EIO)))
}

fn other(error: io::Error) -> SetupError {
    SetupError::Other {
        call: "memfd_create",
        error,
    }
}

fn setup_errors() -> Vec<SetupError> {
    vec![
        SetupError::Unsupported {
            call: "io_setup",
            errno: libc::ENOSYS,
        },
        SetupError::Refused {
            call: "io_submit",
            errno: libc::EPERM,
        },
        SetupError::QuotaExhausted {
            asked: 128,
            in_use: Some(65_000),
            max: Some(65_536),
        },
        SetupError::NoMemory,
        SetupError::InvalidDepth(0),
        SetupError::TooManyShards(usize::MAX),
        SetupError::Thread(io::Error::from_raw_os_error(libc::EAGAIN)),
        other(io::Error::from_raw_os_error(libc::EMFILE)),
        other(deep()),
    ]
}

const AIO_ERRORS: [AioError; 8] = [
    AioError::ShutDown,
    AioError::Forked,
    AioError::ContextGone,
    AioError::Stalled,
    AioError::NotSubmitted,
    AioError::WouldDeadlock,
    AioError::NotManual,
    AioError::TimedOut,
];

/// A request that the kernel refuses: the file is not open for writing.
fn refused() -> SubmitError<Iocb<kiocb::op::Rw<std::fs::File, Write, &'static str>>> {
    let read_only = std::fs::File::open("/dev/null").unwrap();
    let request = Iocb::alloc().init_rw(read_only, Write, "bytes", 0);
    request.wait().unwrap_err()
}

type Late = kiocb::op::Rw<std::sync::Arc<std::fs::File>, Read, [u8; 4]>;

/// A request that an `Aio` refuses which was shut down.
fn too_late() -> SubmitError<Iocb<Late>> {
    let aio = aio();
    aio.shutdown(std::time::Duration::from_secs(60)).unwrap();
    let request = aio.alloc().init_rw(null(), Read, [0; 4], 0);
    request.wait().unwrap_err()
}

/// A write to a pipe that nothing reads.
fn broken_pipe() -> CompletionError<io::PipeWriter, &'static str> {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let write = Iocb::alloc().init_rw(writer, Write, "bytes", 0);
    write.wait().unwrap().ok().unwrap_err()
}

/// Neither a regular file nor a block device.
fn not_direct() -> kiocb::direct::DirectFileError {
    kiocb::DirectFile::from_file(std::fs::File::open("/dev/null").unwrap()).unwrap_err()
}

/// The variants of an enum in `src/error.rs`.
fn variants_of(name: &str) -> Vec<String> {
    let source = include_str!("../src/error.rs");
    let (_, body) = source.split_once(&format!("pub enum {name} {{")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = lines.filter(|line| line.starts_with(char::is_uppercase));
    let name = |line: &str| {
        line.split(|c: char| !c.is_alphanumeric())
            .next()
            .map(str::to_owned)
    };
    variants.filter_map(name).collect()
}

#[test]
fn every_variant_is_in_the_lists_of_this_test() {
    let aio = AIO_ERRORS.map(|error| format!("{error:?}"));
    let setup: Vec<_> = setup_errors()
        .iter()
        .map(|error| format!("{error:?}"))
        .collect();
    for (name, listed) in [("AioError", &aio[..]), ("SetupError", &setup)] {
        let variants = variants_of(name);
        assert!(variants.len() > 5, "{variants:?}");
        for variant in variants {
            assert!(
                listed.iter().any(|text| text.starts_with(&variant)),
                "{variant}"
            );
        }
    }
}

#[test]
fn no_error_repeats_in_its_text_what_its_source_says() {
    let _watchdog = watchdog();
    for error in setup_errors() {
        assert_says_nothing_twice(&error);
        assert_says_nothing_twice(&io::Error::from(error));
    }
    for error in AIO_ERRORS {
        assert_says_nothing_twice(&error);
        assert_says_nothing_twice(&io::Error::from(error));
    }
    assert_says_nothing_twice(&refused());
    assert_says_nothing_twice(&too_late());
    assert_says_nothing_twice(&broken_pipe());
    assert_says_nothing_twice(&not_direct());
}

#[test]
fn the_chain_of_an_error_leads_to_the_io_error_behind_it() {
    let _watchdog = watchdog();
    assert_eq!(
        texts(&refused()),
        [
            "the request was not submitted",
            "Bad file descriptor (os error 9)"
        ]
    );
    assert_eq!(
        texts(&broken_pipe()),
        ["the I/O failed", "Broken pipe (os error 32)"]
    );
    assert_eq!(
        texts(&other(deep())),
        [
            "can't set up kernel AIO: memfd_create failed",
            "outer",
            "Input/output error (os error 5)"
        ]
    );
}

#[test]
fn every_error_has_the_errno_of_its_cause() {
    let _watchdog = watchdog();
    let setup: Vec<_> = setup_errors().iter().map(SetupError::errno).collect();
    let (enosys, eperm) = (Some(libc::ENOSYS), Some(libc::EPERM));
    let (eagain, enomem) = (Some(libc::EAGAIN), Some(libc::ENOMEM));
    let emfile = Some(libc::EMFILE);
    assert_eq!(
        setup,
        [
            enosys, eperm, eagain, enomem, None, None, eagain, emfile, None
        ]
    );
    let canceled = Some(libc::ECANCELED);
    assert_eq!(
        AIO_ERRORS.map(AioError::errno),
        [canceled, None, canceled, enomem, None, None, None, None]
    );
    assert_eq!(refused().errno(), Some(libc::EBADF));
    assert_eq!(too_late().errno(), canceled);
    assert_eq!(broken_pipe().errno(), Some(libc::EPIPE));
    assert_eq!(not_direct().errno(), None);
    assert_eq!(not_direct().error().kind(), io::ErrorKind::Unsupported);
}

#[test]
fn a_completion_is_looked_at_in_one_step() -> io::Result<()> {
    let _watchdog = watchdog();
    let (count, buf, file) = Iocb::alloc()
        .init_rw(file_of(b"bytes"), Read, vec![0; 16], 0)
        .wait()?
        .ok()?;
    assert_eq!(&buf[..count], b"bytes");
    let (none, (), _file) = Iocb::alloc().init_fsync(file).wait()?.ok()?;
    assert_eq!(none, 0);
    Ok(())
}

#[test]
fn an_io_that_failed_gives_back_buffer_and_file() {
    let _watchdog = watchdog();
    let error = broken_pipe();
    assert_eq!(error.error().kind(), io::ErrorKind::BrokenPipe);
    assert!(format!("{error:?}").starts_with("CompletionError { error: Os { code: 32"));
    let (error, buf, writer) = error.into_parts();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    assert_eq!(buf, "bytes");
    drop(writer);
    assert_eq!(
        io::Error::from(broken_pipe()).raw_os_error(),
        Some(libc::EPIPE)
    );
}

#[test]
fn a_wait_for_readiness_is_looked_at_in_one_step() -> io::Result<()> {
    let _watchdog = watchdog();
    let (reader, writer) = io::pipe()?;
    let ready = Iocb::alloc().init_poll(writer, PollFlags::OUT);
    let (events, _writer) = ready.wait()?.ok()?;
    assert!(events.contains(PollFlags::OUT));
    let unready = Iocb::alloc().init_poll(reader, PollFlags::IN).start()?;
    assert!(unready.cancel());
    let error = unready.wait().ok().unwrap_err();
    assert_eq!(error.errno(), Some(libc::ECANCELED));
    let (_, (), _reader) = error.into_parts();
    Aio::global()?.drain()
}

/// The types in a source that implement `Error`, without their parameters.
fn error_types(source: &str) -> Vec<String> {
    let impls = source.lines().filter_map(|line| {
        let (head, rest) = line.split_once("Error for ")?;
        head.starts_with("impl").then_some(rest)
    });
    let name = |rest: &str| rest.split(['<', ' ']).next().unwrap_or_default().to_owned();
    impls.map(name).collect()
}

#[test]
fn every_error_type_says_its_errno() {
    let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut count, mut without) = (0, Vec::new());
    for file in sources::rust_files(&src) {
        let source = std::fs::read_to_string(&file).unwrap();
        for name in error_types(&source) {
            count += 1;
            let blocks = source.split("\nimpl").filter(|block| {
                let head = block.lines().next().unwrap_or_default();
                head.contains(&name) && !head.contains(" for ")
            });
            let says = |block: &str| {
                block.contains("pub fn errno(self) -> Option<i32>")
                    || block.contains("pub fn errno(&self) -> Option<i32>")
            };
            if !blocks.into_iter().any(says) {
                without.push(name);
            }
        }
    }
    assert!(count >= 6, "only {count} were found");
    assert_eq!(without, Vec::<String>::new());
}
