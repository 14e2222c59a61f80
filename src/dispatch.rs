//! Where callbacks run.

/// Which thread runs the callbacks of an [`Aio`](crate::Aio).
///
/// Blocking waits and futures need no callback: a thread that waits may take the events itself, whatever is
/// chosen here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dispatch {
    /// One thread of the `Aio`'s own, the completion thread: callbacks never run elsewhere, and never two at
    /// once. With [`shards`](crate::AioBuilder::shards) that is one thread for each. The default.
    ///
    /// A lock of yours may be held across `submit`: no callback runs inside it.
    #[default]
    Thread,
    /// The thread that finds the completion: the completion thread, or one that submits, waits, cancels or
    /// polls a handle on this `Aio`.
    ///
    /// This saves a change of thread where media answer at once. Callbacks may run at the same time as
    /// others, and **inside `submit`**: don't hold a lock across it that a callback takes.
    Anywhere,
    /// The thread inside [`Aio::poll`](crate::Aio::poll). For engines with a loop of their own: no completion
    /// thread is made. Callbacks also run inside the other calls that poll such a context:
    /// [`drain`](crate::Aio::drain), [`shutdown`](crate::Aio::shutdown) and the last drop, or on a thread
    /// that is made for the end where the last drop may not block. If what they own is not `Send`: a
    /// [`LocalAio`](crate::LocalAio).
    Manual,
}
