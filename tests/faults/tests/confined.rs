//! Places with less than a whole Linux: containers' filters, other users' rights, few resources, emulators. In each
//! of them kiocb works, works by system calls alone, or says with a typed error what it lacks.

mod kit;

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kiocb::{Aio, Dispatch, SetupError};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Child, Filter, limit_open_files, need, need_root};
use kit::*;
use nix::sys::resource::{Resource, setrlimit};

/// How completions are read, as the log says it.
const BY_RING: &str = "completions by Ring";
const BY_SYSTEM_CALLS: &str = "completions by Syscalls";

/// The ring, unless the whole run is without.
fn best() -> &'static str {
    let forced = std::env::var_os("KIOCB_FORCE_SYSCALLS").is_some_and(|value| value == "1");
    if forced { BY_SYSTEM_CALLS } else { BY_RING }
}

const DISPATCH: [Dispatch; 2] = [Dispatch::Thread, Dispatch::Manual];

/// Writes, reads and shuts down; completions are read in this way.
fn works(file: std::fs::File, dispatch: Dispatch, how: &str) {
    listen_to_log();
    let file = Arc::new(file);
    let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
    wait_for_log(how);
    for block in 0..8 {
        let done = write(&aio, &file, block, block as u8 + 1).wait();
        assert_eq!(done.unwrap().result.unwrap(), BLOCK);
        verify(&read(&aio, &file, block).wait().unwrap(), block);
    }
    aio.shutdown(Duration::from_secs(30)).unwrap();
}

fn file() -> std::fs::File {
    tempfile::tempfile().unwrap()
}

/// In a child for each kind of dispatch: after `confine` it works, and completions are read in this way.
fn works_after(test: &str, case: &str, confine: impl Fn(), how: &str) {
    for dispatch in DISPATCH {
        let child = Child::of(test).case(&format!("{case}, {dispatch:?}"));
        let exit = child.run(|| {
            let file = file();
            confine();
            works(file, dispatch, how);
        });
        exit.success();
    }
}

/// Runs a program that may not be there, or not be allowed.
fn try_run(program: &[&str]) -> io::Result<()> {
    let output = Command::new(program[0]).args(&program[1..]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let succeeded = output.status.success();
    succeeded
        .then_some(())
        .ok_or_else(|| io::Error::other(said))
}

// ---- containers ----------------------------------------------------------------------------------------

/// What the default seccomp profile of a container engine does not let a program do that is no superuser of the
/// machine: system calls and their errors.
struct Profile {
    name: &'static str,
    refused: &'static [(&'static [libc::c_long], i32)],
}

/// io_uring, to which AIO is the alternative there.
const IO_URING: &[libc::c_long] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// The kernel's own affairs, and those of other processes and users.
const PRIVILEGED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Its flags can't be read by a filter, so C libraries are to use `clone`.
const CLONE3: &[libc::c_long] = &[libc::SYS_clone3];

const PROFILES: [Profile; 2] = [
    Profile {
        name: "Docker",
        refused: &[
            (IO_URING, libc::EPERM),
            (PRIVILEGED, libc::EPERM),
            (CLONE3, libc::ENOSYS),
        ],
    },
    Profile {
        name: "Podman",
        refused: &[
            (IO_URING, libc::ENOSYS),
            (PRIVILEGED, libc::EPERM),
            (CLONE3, libc::ENOSYS),
        ],
    },
];

impl Profile {
    fn filter(&self) -> Filter {
        let mut filter = Filter::new();
        for &(calls, errno) in self.refused {
            filter = calls.iter().fold(filter, |f, &call| f.fail(call, errno));
        }
        filter
    }

    /// What it says to a call that it does not know.
    fn unknown(&self) -> i32 {
        self.refused[0].1
    }
}

#[test]
fn the_default_profiles_of_containers_let_it_work() {
    const TEST: &str = "the_default_profiles_of_containers_let_it_work";
    for profile in PROFILES {
        works_after(TEST, profile.name, || profile.filter().install(), best());
    }
}

#[test]
fn a_profile_without_a_needed_call_is_told_by_its_name() {
    const TEST: &str = "a_profile_without_a_needed_call_is_told_by_its_name";
    let calls = [
        ("io_setup", libc::SYS_io_setup),
        ("io_submit", libc::SYS_io_submit),
        ("io_getevents", libc::SYS_io_getevents),
        ("io_destroy", libc::SYS_io_destroy),
    ];
    for profile in PROFILES {
        for (name, number) in calls {
            let child = Child::of(TEST).case(&format!("{}, {name}", profile.name));
            let exit = child.run(|| {
                profile.filter().fail(number, profile.unknown()).install();
                let error = Aio::builder().build().unwrap_err();
                match setup_error(&error) {
                    SetupError::Refused { call, errno } => {
                        assert_eq!((*call, *errno), (name, libc::EPERM));
                    }
                    SetupError::Unsupported { call, errno } => {
                        assert_eq!((*call, *errno), (name, libc::ENOSYS));
                    }
                    other => panic!("{other:?}"),
                }
            });
            exit.success();
        }
    }
}

#[test]
fn without_memfds_events_are_read_by_system_calls() {
    const TEST: &str = "without_memfds_events_are_read_by_system_calls";
    let confine = || {
        let filter = Filter::new().fail(libc::SYS_memfd_create, libc::EPERM);
        filter.install();
    };
    works_after(TEST, "no memfd", confine, BY_SYSTEM_CALLS);
}

#[test]
fn a_user_namespace_has_the_ring() {
    const TEST: &str = "a_user_namespace_has_the_ring";
    const UNSHARE: [&str; 3] = ["unshare", "--user", "--map-root-user"];
    need!(try_run(&[&UNSHARE[..], &["true"]].concat()));
    for dispatch in DISPATCH {
        let child = Child::of(TEST)
            .under(&UNSHARE)
            .case(&format!("{dispatch:?}"));
        child.run(|| works(file(), dispatch, best())).success();
    }
}

#[test]
fn a_root_without_proc_and_dev_has_the_ring() {
    need_root!();
    const TEST: &str = "a_root_without_proc_and_dev_has_the_ring";
    let confine = || {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::chroot(root.path()).unwrap();
        std::env::set_current_dir("/").unwrap();
    };
    works_after(TEST, "chroot", confine, best());
}

#[test]
fn a_root_without_dev_and_memfds_says_what_it_lacks() {
    need_root!();
    const TEST: &str = "a_root_without_dev_and_memfds_says_what_it_lacks";
    let exit = Child::of(TEST).run(|| {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::chroot(root.path()).unwrap();
        Filter::new()
            .fail(libc::SYS_memfd_create, libc::EPERM)
            .install();
        let error = Aio::builder().build().unwrap_err();
        match setup_error(&error) {
            SetupError::Other { call, error } => {
                assert_eq!(*call, "memfd_create");
                let said = error.to_string();
                assert!(said.contains("no memfd and no /dev/null"), "{said}");
            }
            other => panic!("{other:?}"),
        }
    });
    exit.success();
}

// ---- few resources -------------------------------------------------------------------------------------

#[test]
fn eight_descriptors_are_enough() {
    works_after(
        "eight_descriptors_are_enough",
        "ulimit -n 8",
        || limit_open_files(8),
        best(),
    );
}

#[test]
fn no_locked_memory_is_needed() {
    let confine = || setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0).unwrap();
    works_after("no_locked_memory_is_needed", "ulimit -l 0", confine, best());
}

#[test]
fn a_full_address_space_is_an_error_that_says_so() {
    let exit = Child::of("a_full_address_space_is_an_error_that_says_so").run(|| {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        let limit = pages * 4096 + (1 << 20); // ulimit -v; the ring of this depth takes more
        setrlimit(Resource::RLIMIT_AS, limit, limit).unwrap();
        let builder = Aio::builder().depth(40_000).dispatch(Dispatch::Manual);
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    });
    exit.success();
}

// ---- emulators -----------------------------------------------------------------------------------------

/// Memcheck takes the ring for shorter than it is: it is left alone, so that nothing is reported.
#[test]
fn under_valgrind_events_are_read_by_system_calls() {
    const TEST: &str = "under_valgrind_events_are_read_by_system_calls";
    need!(try_run(&["valgrind", "--version"]));
    for dispatch in DISPATCH {
        let valgrind = ["valgrind", "--error-exitcode=99", "--fair-sched=yes"];
        let child = Child::of(TEST)
            .under(&valgrind)
            .case(&format!("{dispatch:?}"));
        let exit = child.run(|| works(file(), dispatch, BY_SYSTEM_CALLS));
        exit.success();
    }
}

/// It has no AIO: not even `io_setup`.
#[test]
fn under_qemu_user_the_missing_call_is_named() {
    const TEST: &str = "under_qemu_user_the_missing_call_is_named";
    let qemu = format!("qemu-{}", std::env::consts::ARCH);
    let qemu = qemu.as_str();
    need!(try_run(&[qemu, "--version"]));
    let exit = Child::of(TEST).under(&[qemu]).run(|| {
        let error = Aio::builder().build().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        let names_it = |reason: &SetupError| {
            matches!(
                reason,
                SetupError::Unsupported {
                    call: "io_setup",
                    errno: libc::ENOSYS
                }
            )
        };
        assert!(names_it(setup_error(&error)), "{error:?}");
    });
    exit.success();
}
