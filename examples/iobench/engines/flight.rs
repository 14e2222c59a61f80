//! A request whose callback submits the next one: what the engines with callbacks have in common.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use kiocb::op::{Read, Write};
use kiocb::{Aio, AlignedBuf, Completion};

use crate::job::Job;
use crate::slot::Slot;

/// What goes round with a request beside its file and buffer. Boxed once, so that a callback captures one
/// pointer.
struct Flight {
    aio: Aio,
    slot: Slot,
    writes: bool,
    /// Nothing is ever sent. When the last one is dropped, all requests have landed.
    _landed: Sender<Infallible>,
}

/// A request refused in a callback takes its flight with it; the reason stays here for [`outcome`].
static REFUSED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Starts all flights of loop `index` on `aio`; each holds a `landed` until it ends.
pub(super) fn launch_all(
    job: &Arc<Job>,
    aio: &Aio,
    index: usize,
    landed: &Sender<Infallible>,
) -> io::Result<()> {
    job.slots(index).try_for_each(|slot| {
        let flight = Flight {
            aio: aio.clone(),
            slot,
            writes: job.rw.writes(),
            _landed: landed.clone(),
        };
        launch(Box::new(flight), Arc::clone(&job.file), job.buffer())
    })
}

/// What went wrong on the way, if anything did.
pub(super) fn outcome() -> io::Result<()> {
    let refused = REFUSED.lock().expect("no panic while locked").take();
    refused.map_or(Ok(()), Err)
}

fn launch(mut flight: Box<Flight>, file: Arc<File>, mut buffer: AlignedBuf) -> io::Result<()> {
    let offset = flight.slot.begin(&mut buffer);
    let blank = flight.aio.alloc();
    if flight.writes {
        let request = blank.init_rw(file, Write, buffer, offset);
        request
            .init_callback(move |done| land(flight, done))
            .submit()?;
    } else {
        let request = blank.init_rw(file, Read, buffer, offset);
        request
            .init_callback(move |done| land(flight, done))
            .submit()?;
    }
    Ok(())
}

fn land(mut flight: Box<Flight>, done: Completion<Arc<File>, AlignedBuf>) {
    flight.slot.end(done.result, &done.buf);
    if !flight.slot.goes_on() {
        return;
    }
    if let Err(error) = launch(flight, done.file, done.buf) {
        REFUSED
            .lock()
            .expect("no panic while locked")
            .get_or_insert(error);
    }
}
