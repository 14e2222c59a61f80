//! Bytes of which most are zero and many are shared with another copy, as a file and what is on the medium of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const PAGE: usize = 4096;
type Page = [u8; PAGE];

/// A page that is not there is zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    len: usize,
    pages: BTreeMap<usize, Arc<Page>>,
}

impl Sparse {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What is new reads as zeroes, also where something was cut off before.
    pub(super) fn resize(&mut self, len: usize) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            if let Some(last) = self.pages.get_mut(&(len / PAGE)) {
                Arc::make_mut(last)[len % PAGE..].fill(0);
            }
        }
        self.len = len;
    }

    pub(super) fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let end = offset.saturating_add(len).min(self.len);
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset));
        for part in parts(offset..end, PAGE) {
            let inside = part.start % PAGE..part.start % PAGE + part.len();
            match self.pages.get(&(part.start / PAGE)) {
                Some(page) => bytes.extend_from_slice(&page[inside]),
                None => bytes.resize(bytes.len() + part.len(), 0),
            }
        }
        bytes
    }

    /// Writes bytes that lie before the end and in one page.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let (number, start) = (offset / PAGE, offset % PAGE);
        if bytes.iter().all(|&byte| byte == 0) && !self.pages.contains_key(&number) {
            return;
        }
        let page = self.pages.entry(number);
        let page = page.or_insert_with(|| Arc::new([0; PAGE]));
        Arc::make_mut(page)[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

/// The parts of a range between multiples of `unit`.
pub(super) fn parts(range: Range<usize>, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let part = start..(start / unit * unit + unit).min(range.end);
        start = part.end;
        (!part.is_empty()).then_some(part)
    })
}
