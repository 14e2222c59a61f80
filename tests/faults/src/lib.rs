//! The fault lab: real faults for kiocb's tests, from the running kernel, without a mock.
//!
//! | wanted | use |
//! | --- | --- |
//! | I/O held in flight until the test says so, EIO, ENOSPC, EINTR, EAGAIN, short reads, no answer ever | [`SlowFs`] |
//! | the same from a block device | [`LoopDevice`] over a file of a [`SlowFs`] |
//! | what was not synced lost, torn or reordered by a power cut | [`VolatileFs`]; under a store: [`Torture`] |
//! | tmpfs, ramfs, ext4, XFS, btrfs, squashfs, an overlay; tiny, full or frozen ones | [`Mount`] |
//! | `io_submit` blocked | [`Mount::freeze`], [`MissingPages`], a read of an empty pipe |
//! | a limit, a signal's action, a filter, in a process of its own | [`in_child`], [`Child`], [`ControlGroup`] |
//! | a system call that fails, always or by its arguments | [`Filter`] |
//! | a system call answered call by call | [`supervise`] |
//! | the kernel taking only part of a submission | [`Child::run_limited`], [`Answer::Only`] |
//!
//! What a machine cannot do is skipped aloud ([`need!`], [`skip!`]), and fails with `KIOCB_CI=1`. All waits
//! are bounded ([`Watchdog`]); nothing here sleeps to give something time to happen. Everything is undone
//! when its value is dropped, and also when the process is killed: mounts and loop devices have no name that
//! could be left behind, and a guardian process thaws and aborts what a dying process would wait for.

mod cgroup;
mod child;
mod freeze;
mod fsapi;
mod fuse;
mod guardian;
mod limits;
mod loopdev;
mod missing;
mod mount;
#[allow(dead_code, reason = "the lab uses a part of it")]
#[path = "../../kit/random.rs"]
mod random;
pub mod raw;
mod seccomp;
pub mod skip;
mod slowfs;
mod stuck;
mod supervise;
mod torture;
mod trace;
mod volatile;
mod watchdog;

pub use cgroup::ControlGroup;
pub use child::{Child, Exit, in_child, inside};
pub use freeze::Frozen;
pub use limits::{limit_file_size, limit_open_files, limit_threads_of_nobody};
pub use loopdev::LoopDevice;
pub use missing::MissingPages;
pub use mount::Mount;
pub use seccomp::Filter;
pub use slowfs::{Gate, Op, Seen, SlowFs, When};
pub use stuck::{is_asleep_in, thread_id, wait_until_asleep_in};
pub use supervise::{Answer, Call, supervise};
pub use torture::{Rounds, Torture};
pub use trace::Submission;
pub use volatile::VolatileFs;
pub use watchdog::{PATIENCE, Watchdog};
