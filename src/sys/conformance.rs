//! What a kernel does with a context, told once and asked of each that stands behind the engine: the machine's own,
//! that of the models and schedules, and that of the simulation.
//!
//! Where the others are known to be otherwise than the machine's: they refuse a request beyond the number that was
//! asked for, where the machine's has more room than that; they fail the test, instead of answering EINVAL, where a
//! destroyed context is read, waited for or woken; that of the simulation refuses requests by chance, so no descriptor is bad to it.
#![allow(unsafe_code, reason = "asks kernels directly")]

use super::kernel::{Mode, WAKE};
use super::ring::Take;
use super::{io_event, iocb};
use std::time::Duration;

/// One of the kernels.
trait Subject: Sized {
    /// Room for four requests.
    fn setup(force_syscalls: bool) -> Self;
    fn mode(&self) -> Mode;
    fn submit(&self, iocbs: &mut [iocb]) -> Result<usize, i32>;
    fn is_alive(&self) -> bool;
    fn take(&self, reader: impl FnMut(&io_event) -> Take) -> usize;
    fn fetch(&self, min: usize, timeout: Option<Duration>) -> Result<Vec<io_event>, i32>;
    fn pure_wait(&self, timeout: Option<Duration>) -> Result<(), i32>;
    fn cancel(&self, iocb: &mut iocb) -> bool;
    fn wake(&self) -> Result<(), i32>;
    fn destroy(&self) -> Result<(), i32>;

    /// It is complete at once, with 0.
    fn at_once() -> iocb;
    /// It does not fire.
    fn poll() -> iocb;
    /// Its descriptor is none.
    fn bad() -> Option<iocb>;
}

macro_rules! subject {
    ($kernel:ty { $($own:item)* }) => {
        impl Subject for $kernel {
            fn setup(force_syscalls: bool) -> Self {
                <$kernel>::setup(4, force_syscalls).expect("there is room for a context")
            }

            fn mode(&self) -> Mode {
                <$kernel>::mode(self)
            }

            fn submit(&self, iocbs: &mut [iocb]) -> Result<usize, i32> {
                let pointers: Vec<_> = iocbs.iter_mut().map(std::ptr::from_mut).collect();
                // SAFETY: they may be read and written, and name no memory.
                unsafe { <$kernel>::submit(self, &pointers) }
            }

            fn is_alive(&self) -> bool {
                <$kernel>::is_alive(self)
            }

            fn take(&self, reader: impl FnMut(&io_event) -> Take) -> usize {
                // SAFETY: a context has one thread here, and is not destroyed.
                unsafe { <$kernel>::take(self, 8, reader) }
            }

            fn fetch(&self, min: usize, timeout: Option<Duration>) -> Result<Vec<io_event>, i32> {
                let mut events = Vec::new();
                let read = |event: &io_event| (events.push(*event), Take::Taken).1;
                // SAFETY: as for `take`.
                unsafe { <$kernel>::fetch(self, min, 8, timeout, None, read) }.map(|_| events)
            }

            fn pure_wait(&self, timeout: Option<Duration>) -> Result<(), i32> {
                <$kernel>::pure_wait(self, timeout, None)
            }

            fn cancel(&self, iocb: &mut iocb) -> bool {
                // SAFETY: it is the test's.
                unsafe { <$kernel>::cancel(self, iocb) }
            }

            fn wake(&self) -> Result<(), i32> {
                <$kernel>::wake(self)
            }

            fn destroy(&self) -> Result<(), i32> {
                // SAFETY: the test reads no more events of it.
                unsafe { <$kernel>::destroy(self) }
            }

            $($own)*
        }
    };
}

/// Requests of this name, in this order.
fn named<const N: usize>(iocbs: [iocb; N]) -> [iocb; N] {
    let mut name = 1;
    iocbs.map(|iocb| {
        name += 1;
        iocb {
            aio_data: name,
            ..iocb
        }
    })
}

/// Tags and results of what is complete; none is left.
fn complete<S: Subject>(kernel: &S) -> Vec<(u64, i64)> {
    let mut seen = Vec::new();
    kernel.take(|event| (seen.push((event.data, event.res)), Take::Taken).1);
    seen
}

fn nothing_is_submitted<S: Subject>(kernel: &S) {
    assert_eq!(kernel.submit(&mut []), Ok(0));
    assert!(kernel.is_alive());
    assert_eq!(complete(kernel), []);
}

fn an_event_carries_tag_and_result<S: Subject>(kernel: &S) {
    let mut iocbs = named([S::at_once(), S::at_once()]);
    assert_eq!(kernel.submit(&mut iocbs), Ok(2));
    let mut events = complete(kernel);
    events.sort_unstable(); // they may come in any order
    assert_eq!(events, [(2, 0), (3, 0)]);
    assert_eq!(complete(kernel), []);
}

fn a_refusal_behind_others_is_a_count_and_then_an_errno<S: Subject>(kernel: &S) {
    let Some(bad) = S::bad() else {
        return;
    };
    let mut iocbs = named([S::at_once(), bad, S::at_once()]);
    assert_eq!(kernel.submit(&mut iocbs), Ok(1));
    assert_eq!(kernel.submit(&mut iocbs[1..]), Err(libc::EBADF));
    assert_eq!(complete(kernel), [(2, 0)]);
}

fn what_is_left_on_the_ring_stays<S: Subject>(kernel: &S) {
    if kernel.mode() == Mode::Syscalls {
        return; // without a ring there is no choice
    }
    assert_eq!(kernel.submit(&mut named([S::at_once()])), Ok(1));
    assert_eq!(kernel.take(|_| Take::Leave), 0);
    assert_eq!(complete(kernel), [(2, 0)]);
}

fn a_wait_ends_by_an_event_or_in_time<S: Subject>(kernel: &S) {
    let no_time = Some(Duration::ZERO);
    let is_ring = kernel.mode() == Mode::Ring;
    let wait = |timeout| match is_ring {
        true => kernel.pure_wait(timeout).map(|()| Vec::new()),
        false => kernel.fetch(1, timeout),
    };
    assert_eq!(wait(no_time).map(|events| events.len()), Ok(0));
    assert_eq!(kernel.submit(&mut named([S::at_once()])), Ok(1));
    let fetched = wait(None).expect("there is an event");
    assert_eq!(fetched.len(), usize::from(!is_ring));
    assert_eq!(
        complete(kernel).len(),
        usize::from(is_ring),
        "a pure wait takes nothing"
    );
}

fn the_wake_up_is_an_event<S: Subject>(kernel: &S) {
    assert_eq!(kernel.wake(), Ok(()));
    assert_eq!(complete(kernel), [(WAKE, 0)]);
}

fn a_poll_is_cancelled_once_and_its_event_follows<S: Subject>(kernel: &S) {
    let mut poll = named([S::poll()]);
    assert_eq!(kernel.submit(&mut poll), Ok(1));
    assert_eq!(complete(kernel), []);
    assert!(kernel.cancel(&mut poll[0]));
    let mut events = Vec::new();
    while events.is_empty() {
        events = complete(kernel); // the machine's kernel has a thread for it
    }
    assert_eq!(events, [(2, 0)]);
    assert!(!kernel.cancel(&mut poll[0]));
}

fn what_is_complete_is_not_cancelled<S: Subject>(kernel: &S) {
    let mut iocbs = named([S::at_once()]);
    assert_eq!(kernel.submit(&mut iocbs), Ok(1));
    assert!(!kernel.cancel(&mut iocbs[0]));
    assert_eq!(complete(kernel), [(2, 0)]);
}

/// All of them, of one kernel. Each leaves its context empty.
fn conforms<S: Subject>(force_syscalls: bool) {
    let statements: [fn(&S); 8] = [
        nothing_is_submitted,
        an_event_carries_tag_and_result,
        a_refusal_behind_others_is_a_count_and_then_an_errno,
        what_is_left_on_the_ring_stays,
        a_wait_ends_by_an_event_or_in_time,
        the_wake_up_is_an_event,
        a_poll_is_cancelled_once_and_its_event_follows,
        what_is_complete_is_not_cancelled,
    ];
    for statement in statements {
        let kernel = S::setup(force_syscalls);
        statement(&kernel);
        assert_eq!(kernel.destroy(), Ok(()));
        assert!(!kernel.is_alive());
        assert_eq!(kernel.submit(&mut named([S::at_once()])), Err(libc::EINVAL));
    }
}

#[cfg(not(shuttle))]
mod here {
    use super::super::{IOCB_CMD_POLL, IOCB_CMD_PREAD, kernel, simulated};
    use super::*;
    use simulated::Behaviour;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::sync::OnceLock;

    /// An empty file, and a pipe to which nothing is written.
    struct Files(
        File,
        std::io::PipeReader,
        #[allow(dead_code, reason = "keeps the pipe open")] std::io::PipeWriter,
    );

    fn files() -> &'static Files {
        static FILES: OnceLock<Files> = OnceLock::new();
        FILES.get_or_init(|| {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            Files(File::open("/dev/zero").expect("a file"), reader, writer)
        })
    }

    fn of(opcode: u16, file: &impl AsRawFd) -> iocb {
        iocb {
            aio_lio_opcode: opcode,
            aio_fildes: file.as_raw_fd().cast_unsigned(),
            ..iocb::default()
        }
    }

    subject!(kernel::Kernel {
        fn at_once() -> iocb {
            of(IOCB_CMD_PREAD, &files().0)
        }

        fn poll() -> iocb {
            iocb {
                aio_buf: libc::POLLIN.cast_unsigned().into(),
                ..of(IOCB_CMD_POLL, &files().1)
            }
        }

        fn bad() -> Option<iocb> {
            Some(iocb {
                aio_fildes: u32::MAX,
                ..Self::at_once()
            })
        }
    });

    subject!(simulated::Kernel {
        fn at_once() -> iocb {
            iocb::default()
        }

        fn poll() -> iocb {
            iocb {
                aio_fildes: Behaviour::Held as u32,
                ..iocb::default()
            }
        }

        fn bad() -> Option<iocb> {
            Some(iocb {
                aio_reqprio: 9, // EBADF
                ..iocb::default()
            })
        }
    });

    #[test]
    fn the_machines_kernel_conforms() {
        [false, true]
            .into_iter()
            .for_each(conforms::<kernel::Kernel>);
    }

    #[test]
    fn the_kernel_of_the_models_conforms() {
        [false, true]
            .into_iter()
            .for_each(conforms::<simulated::Kernel>);
    }
}

#[cfg(shuttle)]
mod simulated {
    use super::super::seeded::{Kernel, Machine, Mood, machine};
    use super::super::{IOCB_CMD_POLL, IOCB_CMD_PREAD};
    use super::*;
    use crate::sync;

    subject!(Kernel {
        fn at_once() -> iocb {
            iocb {
                aio_lio_opcode: IOCB_CMD_PREAD,
                ..iocb::default()
            }
        }

        fn poll() -> iocb {
            iocb {
                aio_lio_opcode: IOCB_CMD_POLL,
                ..iocb::default()
            }
        }

        fn bad() -> Option<iocb> {
            None
        }
    });

    fn in_the_best_of_moods() {
        sync::begin(0);
        let mood = Mood {
            at_once: 1,
            ..Mood::default()
        };
        machine(|machine| *machine = Machine::new(1, mood));
        [false, true].into_iter().for_each(conforms::<Kernel>);
    }

    #[test]
    fn the_kernel_of_the_simulation_conforms() {
        shuttle::check_random(in_the_best_of_moods, 1);
    }
}
