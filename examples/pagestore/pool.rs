//! The buffer pool: pages in frames, some of which are given up for others.
//!
//! A frame's bytes are an `Arc<PoolBuf>`, which the tree and the write that carries it to the file share: a
//! change while a write is under way is made to a copy, so no page is written half changed. The clock gives up
//! a page that is clean, not pinned, and was not used since the hand passed it last.

use crate::bytes::index;
use crate::page::{Page, PageId};
use kiocb::BufPool;
use kiocb::buf::PoolBuf;
use std::io;
use std::sync::Arc;

/// A page that has to be read before the work goes on.
#[derive(Debug)]
pub(crate) struct Miss(pub(crate) PageId);

const NOWHERE: u32 = u32::MAX;

pub(crate) struct Pool {
    buffers: BufPool,
    frames: Vec<Frame>,
    /// The frame of each page.
    places: Vec<u32>,
    capacity: usize,
    hand: usize,
    /// Buffers that a read fills.
    reading: usize,
    dirty: usize,
    /// Rises with each checkpoint.
    epoch: u64,
    /// Pages that will be asked for soon.
    wanted: Vec<PageId>,
}

struct Frame {
    page: PageId,
    bytes: Arc<PoolBuf>,
    used: bool,
    /// By the write under way, and by each transaction that waited for the page and has not seen it.
    pins: u32,
    dirty: bool,
    /// When the log got all of the page last.
    imaged: u64,
}

impl Pool {
    /// For a file of `pages` pages, with so many frames, and buffers for so many writes at once beside them.
    pub(crate) fn new(
        pages: u64,
        page_size: usize,
        capacity: usize,
        writes: usize,
    ) -> io::Result<Pool> {
        Ok(Pool {
            buffers: BufPool::builder(capacity + writes + 1, page_size).build()?,
            frames: Vec::with_capacity(capacity),
            places: vec![NOWHERE; index(pages)],
            capacity,
            hand: 0,
            reading: 0,
            dirty: 0,
            epoch: 1,
            wanted: Vec::new(),
        })
    }

    /// Of the file, those included that were never written yet.
    pub(crate) fn pages(&self) -> u64 {
        self.places.len() as u64
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    fn place(&self, page: PageId) -> Option<usize> {
        let place = *self.places.get(index(page))?;
        (place != NOWHERE).then(|| index(place.into()))
    }

    fn frame(&mut self, page: PageId) -> &mut Frame {
        let place = self.place(page).expect("a page that is here");
        &mut self.frames[place]
    }

    pub(crate) fn page(&mut self, page: PageId) -> Result<Page<&[u8]>, Miss> {
        let place = self.place(page).ok_or(Miss(page))?;
        let frame = &mut self.frames[place];
        frame.used = true;
        Ok(Page(&frame.bytes))
    }

    /// A page that was looked at in this same transaction.
    pub(crate) fn here(&mut self, page: PageId) -> Page<&[u8]> {
        self.page(page).expect("nothing was given up since")
    }

    /// The page, to be changed: in place, or in a copy while a write has it.
    pub(crate) fn change(&mut self, page: PageId) -> Page<&mut [u8]> {
        let place = self.place(page).expect("a page that is here");
        let frame = &mut self.frames[place];
        if Arc::get_mut(&mut frame.bytes).is_none() {
            let copy = self.buffers.try_take();
            let mut copy = copy.expect("there is a spare buffer for each write");
            copy.copy_from_slice(&frame.bytes);
            frame.bytes = Arc::new(copy);
        }
        if !frame.dirty {
            frame.dirty = true;
            self.dirty += 1;
        }
        Page(Arc::get_mut(&mut frame.bytes).expect("not shared"))
    }

    /// Whether the log has to have all of the page with this change, as it is the first since the last
    /// checkpoint began: a write that tears the page then can be repaired.
    pub(crate) fn takes_image(&mut self, page: PageId) -> bool {
        let epoch = self.epoch;
        std::mem::replace(&mut self.frame(page).imaged, epoch) < epoch
    }

    /// A new, empty page at the end of the file.
    pub(crate) fn allocate(&mut self, level: usize, link: PageId) -> PageId {
        let buffer = self.free_buffer();
        let buffer = buffer.expect("a part of the pool is kept free of dirty pages");
        let number = self.pages();
        self.places.push(NOWHERE);
        self.put(number, buffer, 0);
        self.change(number).format(number, level, link);
        number
    }

    fn put(&mut self, page: PageId, bytes: PoolBuf, pins: u32) {
        self.places[index(page)] = u32::try_from(self.frames.len()).expect("few frames");
        self.frames.push(Frame {
            page,
            bytes: Arc::new(bytes),
            used: true,
            pins,
            dirty: false,
            imaged: 0,
        });
    }

    fn free_buffer(&mut self) -> Option<PoolBuf> {
        if self.frames.len() + self.reading < self.capacity {
            return self.buffers.try_take();
        }
        self.give_up_one()
    }

    /// Turns the hand of the clock, at most twice.
    fn give_up_one(&mut self) -> Option<PoolBuf> {
        for _ in 0..2 * self.frames.len() {
            self.hand = (self.hand + 1) % self.frames.len();
            let frame = &mut self.frames[self.hand];
            if frame.pins > 0 || frame.dirty || std::mem::take(&mut frame.used) {
                continue;
            }
            let frame = self.frames.swap_remove(self.hand);
            self.places[index(frame.page)] = NOWHERE;
            if let Some(moved) = self.frames.get(self.hand) {
                self.places[index(moved.page)] = u32::try_from(self.hand).expect("few frames");
            }
            return Some(Arc::into_inner(frame.bytes).expect("no write has it: that is a pin"));
        }
        None
    }

    // ---- reads

    /// A buffer to read a page into; `None` while too many reads are under way, or no page can be given up.
    pub(crate) fn begin_read(&mut self) -> Option<PoolBuf> {
        if self.reading >= (self.capacity / 8).max(1) {
            return None;
        }
        let buffer = self.free_buffer()?;
        self.reading += 1;
        Some(buffer)
    }

    /// The read is over; as many transactions as `pins` wait for the page.
    pub(crate) fn end_read(&mut self, page: PageId, bytes: Option<PoolBuf>, pins: u32) {
        self.reading -= 1;
        if let Some(bytes) = bytes {
            self.put(page, bytes, pins);
        }
    }

    /// One of those who waited has its turn.
    pub(crate) fn unpin(&mut self, page: PageId) {
        self.frame(page).pins -= 1;
    }

    pub(crate) fn want(&mut self, page: PageId) {
        if self.place(page).is_none() && page < self.pages() {
            self.wanted.push(page);
        }
    }

    pub(crate) fn next_wanted(&mut self) -> Option<PageId> {
        self.wanted.pop()
    }

    // ---- writes

    /// What is not to be given up before a checkpoint has written it.
    pub(crate) fn dirty(&self) -> usize {
        self.dirty
    }

    /// The pages that a checkpoint has to write, in their order in the file. The first change of each page
    /// from here on goes into the log whole.
    pub(crate) fn begin_checkpoint(&mut self) -> Vec<PageId> {
        self.epoch += 1;
        let dirty = self.frames.iter().filter(|frame| frame.dirty);
        let mut pages: Vec<_> = dirty.map(|frame| frame.page).collect();
        pages.sort_unstable();
        pages
    }

    /// The page's bytes, sealed, to be written. What is changed from here on is dirty again.
    pub(crate) fn begin_write(&mut self, page: PageId) -> Arc<PoolBuf> {
        self.change(page).seal();
        self.dirty -= 1;
        let frame = self.frame(page);
        frame.dirty = false;
        frame.pins += 1;
        Arc::clone(&frame.bytes)
    }

    pub(crate) fn end_write(&mut self, page: PageId, bytes: Arc<PoolBuf>) {
        drop(bytes);
        self.unpin(page);
    }

    /// A buffer that belongs to no frame.
    pub(crate) fn spare(&self) -> PoolBuf {
        let spare = self.buffers.try_take();
        spare.expect("there is one beside those of pages")
    }
}
