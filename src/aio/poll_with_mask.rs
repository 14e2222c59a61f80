//! Polling that a signal may interrupt.

use super::Aio;
use crate::flags::SignalMask;
use std::io;
use std::time::Duration;

impl Aio {
    /// As [`poll`](Aio::poll), with a signal mask in force while it sleeps, as
    /// [`ppoll(2)`](https://man7.org/linux/man-pages/man2/ppoll.2.html) is to `poll(2)`
    /// ([`io_pgetevents(2)`](https://man7.org/linux/man-pages/man2/io_getevents.2.html), Linux 4.18). For a
    /// loop whose thread blocks a signal, and takes it nowhere but in here: so none is missed between a look
    /// at what its handler has set and the sleep.
    ///
    /// When the handler of a signal has run, it returns what it has delivered so far, which may be fewer than
    /// `min`, or none; a process that was stopped and continued returns as well. So it does when an event has
    /// ended its sleep, whatever the event brought: the kernel does not say whether a handler ran then, too.
    /// While it does not sleep, because results are there, the thread's own mask stays in force. The callbacks
    /// and all other user code run with the thread's own mask.
    ///
    /// While another thread of the program waits for a request of this context, that one sleeps in the kernel
    /// for both: this thread then sleeps by `ppoll`, and looks for results each millisecond.
    ///
    /// ```
    /// use kiocb::{Aio, Dispatch, SignalMask};
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let aio = Aio::builder().dispatch(Dispatch::Manual).build()?;
    /// let takes_sigterm = SignalMask::all().without(15); // which this thread blocks elsewhere
    /// let timeout = Some(Duration::from_secs(1));
    /// assert_eq!(aio.poll_with_mask(1, usize::MAX, timeout, takes_sigterm)?, 0); // nothing is outstanding
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`poll`](Aio::poll). ENOSYS before Linux 4.18, EPERM or EACCES where a seccomp filter refuses
    /// `io_pgetevents`; then nothing was delivered, and `poll` works as ever.
    pub fn poll_with_mask(
        &self,
        min: usize,
        max: usize,
        timeout: Option<Duration>,
        mask: SignalMask,
    ) -> io::Result<usize> {
        self.engine().poll_with_mask(min, max, timeout, mask.bits())
    }
}
