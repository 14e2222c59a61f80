//! What parent and child write down together: memory that a fork shares.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// Requests of one cell are numbered below this.
pub(crate) const IDS: usize = 64;

/// One cell's account.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Bytes that the file shall have: for each number, whether it was accepted.
    accepted: [AtomicBool; IDS],
    /// Callbacks that shall be called.
    due: [AtomicBool; IDS],
    /// How often the parent called each.
    calls: [AtomicU32; IDS],
    /// How many of them a child called.
    strays: AtomicU32,
    /// The child, once it is made.
    child: AtomicI32,
    /// Whether the thread that forked is the parent's main thread.
    on_main: AtomicBool,
}

static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// Whether this process is the forked one.
pub(crate) fn in_child() -> bool {
    IN_CHILD.load(Ordering::SeqCst)
}

impl Ledger {
    /// A blank one, shared with all children that are forked from now on, and never unmapped.
    pub(crate) fn new() -> &'static Ledger {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Ledger>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(page, libc::MAP_FAILED);
        // SAFETY: mapped for that size, aligned to a page, and all zeroes is a value of each atomic.
        unsafe { &*page.cast::<Ledger>() }
    }

    /// The file shall have the record.
    pub(crate) fn accept(&self, id: u8) {
        self.accepted[usize::from(id)].store(true, Ordering::SeqCst);
    }

    /// The file shall have the record, and its callback be called.
    pub(crate) fn owe(&self, id: u8) {
        self.accept(id);
        self.promise(id);
    }

    /// The callback shall be called; there is no record.
    pub(crate) fn promise(&self, id: u8) {
        self.due[usize::from(id)].store(true, Ordering::SeqCst);
    }

    /// The callback was called, here.
    pub(crate) fn call(&self, id: u8) {
        if in_child() {
            self.stray();
        } else {
            self.calls[usize::from(id)].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A child has called a callback of the parent's.
    pub(crate) fn stray(&self) {
        self.strays.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn strays(&self) -> u32 {
        self.strays.load(Ordering::SeqCst)
    }

    /// Forks, unless it was done; true in the child.
    pub(crate) fn fork(&self, on_main: bool) -> bool {
        if in_child() || self.child.swap(-1, Ordering::SeqCst) != 0 {
            return false;
        }
        self.on_main.store(on_main, Ordering::SeqCst);
        // SAFETY: the other threads of this process sleep, or are in the middle of what the test is about;
        // glibc's allocator survives it.
        match unsafe { libc::fork() } {
            0 => {
                IN_CHILD.store(true, Ordering::SeqCst);
                true
            }
            pid => {
                self.child.store(pid, Ordering::SeqCst);
                false
            }
        }
    }

    pub(crate) fn has_forked(&self) -> bool {
        self.child.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn child(&self) -> i32 {
        self.child.load(Ordering::SeqCst)
    }

    pub(crate) fn forked_on_main(&self) -> bool {
        self.on_main.load(Ordering::SeqCst)
    }

    /// What is wrong, given what the file has come to: each accepted record once, each due callback once, and
    /// nothing by a child.
    pub(crate) fn faults(&self, bytes: &[u8]) -> Vec<String> {
        let mut faults = Vec::new();
        for id in 0..IDS {
            let wanted = |marks: &[AtomicBool; IDS]| usize::from(marks[id].load(Ordering::SeqCst));
            let found = bytes
                .iter()
                .filter(|&&byte| usize::from(byte) == id)
                .count();
            if found != wanted(&self.accepted) {
                faults.push(format!("record {id} is in the file {found} times"));
            }
            let calls = self.calls[id].load(Ordering::SeqCst) as usize;
            if calls != wanted(&self.due) {
                faults.push(format!("callback {id} was called {calls} times"));
            }
        }
        if bytes.iter().any(|&byte| usize::from(byte) >= IDS) {
            faults.push("the child's bytes are in the file".to_owned());
        }
        match self.strays() {
            0 => {}
            strays => faults.push(format!(
                "the child called {strays} callbacks of the parent's"
            )),
        }
        faults
    }
}
