//! Two copies of the crate in one process: the program's, and one in a library that is loaded, and unloaded
//! again.

use kiocb::op::Write;
use kiocb::{Aio, Iocb};
use std::ffi::{CString, c_void};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::thread;

/// The library, loaded.
struct Library {
    handle: *mut c_void,
    path: PathBuf,
}

impl Library {
    fn load() -> Library {
        let program = std::env::current_exe().unwrap();
        let mut path = program.with_file_name("libkiocb_plugin.so");
        if !path.exists() {
            path = program
                .parent()
                .unwrap()
                .with_file_name("libkiocb_plugin.so");
        }
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: a library of ours, whose constructors are Rust's own.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "can't load {}", path.display());
        Library { handle, path }
    }

    fn call(&self, function: &str) -> i32 {
        let name = CString::new(function).unwrap();
        // SAFETY: the library is loaded.
        let address = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        assert!(!address.is_null(), "no {function}");
        // SAFETY: both functions of the library have this type.
        let function =
            unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> i32>(address) };
        function()
    }

    /// Whether its code is in this process's memory.
    fn is_mapped(&self) -> bool {
        let path = fs::canonicalize(&self.path).unwrap();
        fs::read_to_string("/proc/self/maps")
            .unwrap()
            .contains(path.to_str().unwrap())
    }

    fn unload(&self) {
        // SAFETY: its threads have ended, and nothing of it is used any more.
        assert_eq!(unsafe { libc::dlclose(self.handle) }, 0);
    }
}

// SAFETY: a handle of the loader's, which any thread may use.
unsafe impl Sync for Library {}

fn own_copy_works() {
    let null = || File::options().write(true).open("/dev/null").unwrap();
    let done = Iocb::alloc()
        .init_rw(null(), Write, [0; 3], 0)
        .wait()
        .unwrap();
    assert_eq!(done.result.unwrap(), 3);
    Aio::global().unwrap().drain().unwrap();
}

/// What a forked child returns, or 255 if it does not end by itself within a minute.
fn forked(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child goes on with its only thread; the others sleep.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: a number; then ends this process without running what is the parent's.
        unsafe {
            libc::alarm(60);
            libc::_exit(body());
        }
    }
    let mut status = 0;
    // SAFETY: `status` is valid for the write.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        255
    }
}

/// One test, for the second half must not run beside the threads of the first.
#[test]
fn two_copies_work_beside_one_another_and_one_can_be_unloaded() {
    unloaded_nothing_of_it_is_left();
    copies_work_beside_one_another();
}

fn unloaded_nothing_of_it_is_left() {
    own_copy_works();
    for _ in 0..10 {
        let library = Library::load();
        assert!(library.is_mapped());
        // In a thread of its own: what the copy keeps for a thread goes with the thread.
        let code = thread::scope(|threads| {
            threads
                .spawn(|| library.call("kiocb_plugin_own"))
                .join()
                .unwrap()
        });
        assert_eq!(code, 0);
        library.unload();
        assert!(!library.is_mapped(), "the loader keeps it");
        own_copy_works();
    }
}

fn copies_work_beside_one_another() {
    let library = Library::load();
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                own_copy_works();
                assert_eq!(library.call("kiocb_plugin_own"), 0);
                assert_eq!(library.call("kiocb_plugin_global"), 0);
                own_copy_works();
            });
        }
    });
    // Each copy knows by itself that this is a child.
    assert_eq!(forked(|| library.call("kiocb_plugin_global")), 9);
    assert_eq!(forked(|| i32::from(Aio::global().is_ok())), 0);
    assert_eq!(library.call("kiocb_plugin_global"), 0);
    own_copy_works();
}
