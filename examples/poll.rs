//! Readiness beside file I/O, on one context: reads of a file, a pipe and an eventfd, waited for in one
//! place.
//!
//! `cargo run --example poll`. A thread writes to a pipe now and then and rings an eventfd at the end. The
//! main thread waits for whatever comes first, as an engine would that serves commands while its reads are
//! under way; when all is over it cancels the wait that is left.

use kiocb::op::{PollReady, Read};
use kiocb::{Aio, DirectFile, Iocb, Pending, PollFlags};
use nix::sys::eventfd::EventFd;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// What the main loop hears of.
enum Event {
    /// A block was read.
    Block(u64, io::Result<usize>),
    /// The pipe has something to read, or its writer is gone.
    Pipe(io::Result<PollFlags>),
    /// The eventfd was rung.
    Bell(io::Result<PollFlags>),
}

/// Reads some blocks of this program's own file; each callback tells the loop.
fn read_blocks(events: &Sender<Event>) -> io::Result<()> {
    let file = Arc::new(
        DirectFile::options()
            .read(true)
            .open_or_buffered(std::env::current_exe()?)?,
    );
    for block in 0..4 {
        let events = events.clone();
        Iocb::alloc()
            .init_rw(Arc::clone(&file), Read, file.buffer(4096), block * 4096)
            .init_callback(move |done| drop(events.send(Event::Block(block, done.result))))
            .submit()?;
    }
    Ok(())
}

/// Tells the loop when there is something to read. Once: whoever wants to hear again asks again.
fn watch_pipe(pipe: &Arc<PipeReader>, events: &Sender<Event>) -> io::Result<()> {
    let events = events.clone();
    Iocb::alloc()
        .init_poll(Arc::clone(pipe), PollFlags::IN)
        .init_callback(move |ready| drop(events.send(Event::Pipe(ready.result))))
        .submit()?;
    Ok(())
}

fn watch_bell(bell: &Arc<EventFd>, events: &Sender<Event>) -> io::Result<()> {
    let events = events.clone();
    Iocb::alloc()
        .init_poll(Arc::clone(bell), PollFlags::IN)
        .init_callback(move |ready| drop(events.send(Event::Bell(ready.result))))
        .submit()?;
    Ok(())
}

fn speak(mut pipe: PipeWriter, bell: &EventFd) -> io::Result<()> {
    for word in ["one", "two", "three"] {
        pipe.write_all(word.as_bytes())?;
    }
    bell.write(1)?;
    Ok(())
}

/// A wait that nobody will end: a handle can be cancelled, and dropping it would do the same.
fn wait_in_vain() -> io::Result<(Pending<PollReady<PipeReader>>, PipeWriter)> {
    let (quiet, writer) = io::pipe()?;
    Ok((
        Iocb::alloc().init_poll(quiet, PollFlags::IN).start()?,
        writer,
    ))
}

fn main() -> io::Result<()> {
    let (events, inbox) = channel();
    let (reader, writer) = io::pipe()?;
    let (pipe, bell) = (Arc::new(reader), Arc::new(EventFd::new()?));
    let (in_vain, _quiet_writer) = wait_in_vain()?;
    read_blocks(&events)?;
    watch_pipe(&pipe, &events)?;
    watch_bell(&bell, &events)?;
    let speaker = thread::spawn({
        let bell = Arc::clone(&bell);
        move || speak(writer, &bell)
    });
    let (mut blocks, mut rung) = (0, false);
    while blocks < 4 || !rung {
        match inbox.recv().expect("we have a sender ourselves") {
            Event::Block(block, result) => {
                println!("block {block}: {} bytes", result?);
                blocks += 1;
            }
            Event::Pipe(result) => {
                let mut bytes = [0; 64];
                match (&*pipe).read(result.map(|_| &mut bytes[..])?)? {
                    0 => println!("pipe: its writer is gone"),
                    count => {
                        println!("pipe: {}", String::from_utf8_lossy(&bytes[..count]));
                        watch_pipe(&pipe, &events)?;
                    }
                }
            }
            Event::Bell(result) => {
                println!("bell: {:?}, rung {} time", result?, bell.read()?);
                rung = true;
            }
        }
    }
    speaker.join().expect("the speaker does not panic")?;
    println!(
        "the wait in vain: cancelled {}, then {}",
        in_vain.cancel(),
        in_vain.wait().result.unwrap_err()
    );
    Aio::global()?.drain_timeout(std::time::Duration::from_secs(10))?;
    Ok(())
}
