//! The parent's requests of one cell: in flight, complete, queued, plugged; and its file, which shows each
//! byte that was written, however often.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;
use std::time::Duration;

use kiocb::op::{Rw, Write};
use kiocb::{Aio, Dispatch, Iocb, Pending, PollFlags};

use crate::deed::Deed;
use crate::kit::{poll_once, wait_until};
use crate::ledger::{Ledger, in_child};
use crate::place::Place;
use crate::tools::Tools;

pub(crate) type Readable = Pending<kiocb::op::PollReady<PipeReader>>;
pub(crate) type Record = Iocb<Rw<Arc<File>, Write, [u8; 1]>>;

/// Everything that the parent has.
pub(crate) struct World {
    pub(crate) aio: Option<Aio>,
    pub(crate) ledger: &'static Ledger,
    pub(crate) file: Arc<File>,
    /// In flight until its bell is rung.
    pub(crate) held: Option<Readable>,
    bell: PipeWriter,
    /// Complete, and not asked for.
    pub(crate) ready: Option<Pending<ReadyState>>,
    pub(crate) tools: Option<Tools>,
    pub(crate) deed: Deed,
    /// Whether callbacks may use the context: not while it is dropped.
    pub(crate) plugs: bool,
    main: ThreadId,
}

pub(crate) type ReadyState = Rw<Arc<File>, Write, [u8; 1]>;

static WORLD: AtomicPtr<World> = AtomicPtr::new(std::ptr::null_mut());

impl World {
    pub(crate) fn new(dispatch: Dispatch, depth: u32, deed: Deed) -> Box<World> {
        let aio = Aio::builder()
            .depth(depth)
            .dispatch(dispatch)
            .build()
            .unwrap();
        start_thread(&aio);
        let file = Arc::new(appending());
        let (reader, bell) = std::io::pipe().unwrap();
        let held = aio
            .alloc()
            .init_poll(reader, PollFlags::IN)
            .start()
            .unwrap();
        let mut world = Box::new(World {
            aio: Some(aio),
            ledger: Ledger::new(),
            file,
            held: Some(held),
            bell,
            ready: None,
            tools: None,
            deed,
            plugs: true,
            main: std::thread::current().id(),
        });
        world.prepare();
        WORLD.store(&raw mut *world, Ordering::SeqCst);
        world
    }

    /// A record that is there already.
    fn prepare(&mut self) {
        self.ledger.accept(READY);
        let ready = self.record(READY).start().unwrap();
        wait_until("a record is there", || ready.is_complete());
        self.ready = Some(ready);
        self.tools = Some(Tools::new(self.aio(), self.ledger));
    }

    pub(crate) fn aio(&self) -> &Aio {
        self.aio.as_ref().expect("not dropped yet")
    }

    /// Appends its number to the file.
    pub(crate) fn record(&self, id: u8) -> Record {
        self.aio()
            .alloc()
            .init_rw(Arc::clone(&self.file), Write, [id], 0)
    }

    /// Lets the request that is in flight complete.
    pub(crate) fn ring(&self) {
        (&self.bell).write_all(b"!").unwrap();
    }

    pub(crate) fn is_main(&self) -> bool {
        std::thread::current().id() == self.main
    }

    /// What the file has come to.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let read = self.file.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(read);
        bytes
    }
}

/// The record that is complete before the fork.
const READY: u8 = 40;

/// The cell's world, for user code that the engine calls: it lives as long as the cell.
pub(crate) fn world() -> &'static World {
    // SAFETY: set by `World::new`; cells come one after the other, each waits for all of its user code, and
    // its world is dropped after that.
    unsafe { &*WORLD.load(Ordering::SeqCst) }
}

/// Forks here, in the middle of user code, unless this cell has forked already. The child does its deed; it
/// comes back if that is to return.
pub(crate) fn fork_here() {
    let world = world();
    if world.ledger.fork(world.is_main()) {
        world.deed.act(world);
    }
}

/// A file to which each write appends.
fn appending() -> File {
    let named = tempfile::NamedTempFile::new().unwrap();
    File::options()
        .read(true)
        .append(true)
        .open(named.path())
        .unwrap()
}

/// Returns when the completion thread has run something. A child forked while a thread starts can start none:
/// the standard library's lock.
pub(crate) fn start_thread(aio: &Aio) {
    let zero = File::open("/dev/zero").unwrap();
    let request = aio.alloc().init_rw(zero, kiocb::op::Read, [0; 1], 0);
    let (done, ran) = channel();
    request
        .init_callback(move |_| done.send(()).unwrap())
        .submit()
        .unwrap();
    aio.drain().unwrap();
    ran.recv().unwrap();
}

/// Keeps the completion thread inside a callback.
pub(crate) struct Busy(#[allow(dead_code, reason = "dropped, it lets the thread go")] Sender<()>);

impl Busy {
    /// Returns when it is there.
    pub(crate) fn keep(aio: &Aio) -> Busy {
        let (go, gone) = channel::<()>();
        let (enter, entered) = channel();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let request = aio.alloc().init_poll(reader, PollFlags::IN);
        let callback = move |_| {
            enter.send(()).unwrap();
            let _ = gone.recv();
        };
        // Not ready when submitted, so no event is there that this thread could find under
        // `Dispatch::Anywhere`: the completion thread sleeps for it.
        request.init_callback(callback).submit().unwrap();
        writer.write_all(b"!").unwrap();
        entered.recv().unwrap();
        Busy(go)
    }
}

/// A waker that forks.
struct Forks;

impl Wake for Forks {
    fn wake(self: Arc<Self>) {
        fork_here();
    }
}

/// A handle whose completion calls a waker that forks, and what makes it complete.
pub(crate) fn forking_handle(aio: &Aio) -> (Readable, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut pending = aio
        .alloc()
        .init_poll(reader, PollFlags::IN)
        .start()
        .unwrap();
    let waker = Waker::from(Arc::new(Forks));
    let polled = std::pin::Pin::new(&mut pending);
    let polled = polled.poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    (pending, writer)
}

use std::future::Future as _;

/// Waits for a handle within the lab's patience; nothing in a child.
pub(crate) fn finish(mut pending: Readable, aio: Option<&Aio>) {
    if in_child() {
        return;
    }
    let mut is_done = false;
    wait_until("a handle is complete", || {
        if let Some(aio) = aio {
            let _ = aio.poll(0, usize::MAX, Some(Duration::ZERO));
        }
        is_done =
            is_done || matches!(poll_once(&mut pending), Poll::Ready(done) if done.result.is_ok());
        is_done
    });
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

/// What the place leaves for the parent to finish.
#[derive(Default)]
pub(crate) struct Loose {
    pub(crate) handles: Vec<Readable>,
    pub(crate) busy: Option<Busy>,
    pub(crate) bells: Vec<PipeWriter>,
}

impl Loose {
    /// Sets off what was prepared: nothing of it was reaped before.
    pub(crate) fn set_off(&mut self) {
        for mut bell in self.bells.drain(..) {
            bell.write_all(b"!").unwrap();
        }
    }
}

pub(crate) fn depth_for(place: Place) -> u32 {
    // Where a destructor forks, its request must be queued when its handle is dropped, so two slots are all.
    if place == Place::Destructor { 2 } else { 8 }
}
