//! What the crate's root has: the names of a first program, none of which stands in the way of another's.

mod common;

/// Names that are ambiguous are an error as soon as they are used, so this compiles only if the root has
/// none of them.
mod beside_the_standard_library {
    #[allow(unused_imports, reason = "names that are imported and must not matter")]
    use kiocb::*;
    use std::io::*;
    use std::task::*;

    pub(super) fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<usize> {
        let mut bytes = Vec::new();
        let count = from.read_to_end(&mut bytes)?;
        to.write_all(&bytes)?;
        Ok(count)
    }

    pub(super) fn now<T>(poll: Poll<T>) -> Option<T> {
        match poll {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    pub(super) fn is_reached(aio: &Aio, requests: u64) -> bool {
        aio.stats().completed >= requests
    }
}

#[test]
fn a_glob_import_hides_nothing_of_the_standard_library() {
    let _watchdog = common::watchdog();
    let mut copied = Vec::new();
    let count = beside_the_standard_library::copy(&mut &b"bytes"[..], &mut copied);
    assert_eq!((count.unwrap(), &copied[..]), (5, &b"bytes"[..]));
    let ready = beside_the_standard_library::now(std::task::Poll::Ready(1));
    assert_eq!(ready, Some(1));
    assert!(beside_the_standard_library::is_reached(&common::aio(), 0));
}

/// And with the names that are imported one by one.
mod with_explicit_imports {
    use kiocb::*;
    use std::io::{Read, Write};
    use std::task::Poll;

    pub(super) fn round_trip() -> Poll<Vec<u8>> {
        let mut file = crate::common::file_of(b"by std, ");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        file.write_all(b"by kiocb").unwrap();
        let read = Iocb::alloc().init_rw(file, op::Read, vec![0; 16], 0);
        let (count, ..) = read.read_exact().wait().unwrap().ok().unwrap();
        bytes.truncate(count);
        Poll::Ready(bytes)
    }
}

#[test]
fn a_program_may_name_read_write_and_poll_of_the_standard_library() {
    let _watchdog = common::watchdog();
    let bytes = with_explicit_imports::round_trip();
    assert_eq!(bytes, std::task::Poll::Ready(b"by std, ".to_vec()));
}
