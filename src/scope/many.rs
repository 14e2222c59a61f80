//! Many reads or writes of one file, over borrowed memory.

use crate::aio::Aio;
use std::io;
use std::os::fd::AsFd;

impl Aio {
    /// Reads many pieces of one file at once, by as few system calls as there are slots for: each piece is a
    /// buffer and its offset, in the order of [`read_at`](Aio::read_at), each result is in the place of its
    /// piece, with the errnos of `read_at`. Blocks until all are complete.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let file = std::fs::File::open("/dev/zero")?;
    /// let mut pages = [[1; 512]; 2];
    /// let pieces = pages.iter_mut().map(|page| &mut page[..]).zip([0, 512]);
    /// for count in kiocb::Aio::global()?.read_many(&file, pieces) {
    ///     assert_eq!(count?, 512);
    /// }
    /// assert_eq!(pages, [[0; 512]; 2]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "each read may have failed: its result is its only sign"]
    pub fn read_many<'b>(
        &self,
        file: &impl AsFd,
        pieces: impl IntoIterator<Item = (&'b mut [u8], u64)>,
    ) -> Vec<io::Result<usize>> {
        let mut results = Vec::new();
        self.read_many_into(file, pieces, &mut results);
        results
    }

    /// As [`read_many`](Aio::read_many), but into a vector of the caller's, which loses what was in it. Who
    /// keeps the vector for the next call spares an allocation: then nothing is allocated.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (aio, file) = (kiocb::Aio::global()?, std::fs::File::open("/dev/zero")?);
    /// let (mut pages, mut results) = ([[1; 512]; 2], Vec::new());
    /// for round in 0..3 {
    ///     let pieces = pages.iter_mut().map(|page| &mut page[..]).zip([0, 512]);
    ///     aio.read_many_into(&file, pieces, &mut results);
    ///     assert!(results.iter().all(|result| matches!(result, Ok(512))), "round {round}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_many_into<'b>(
        &self,
        file: &impl AsFd,
        pieces: impl IntoIterator<Item = (&'b mut [u8], u64)>,
        results: &mut Vec<io::Result<usize>>,
    ) {
        let pieces = pieces.into_iter();
        self.scope(|s| {
            let reads = pieces.map(|(buf, offset)| s.read_at(file, buf, offset));
            s.wait_for_all(reads, results);
        });
    }

    /// Writes many pieces of one file at once. Otherwise as [`read_many`](Aio::read_many).
    #[must_use = "each write may have failed: its result is its only sign"]
    pub fn write_many<'b>(
        &self,
        file: &impl AsFd,
        pieces: impl IntoIterator<Item = (&'b [u8], u64)>,
    ) -> Vec<io::Result<usize>> {
        let mut results = Vec::new();
        self.write_many_into(file, pieces, &mut results);
        results
    }

    /// Writes many pieces of one file at once. Otherwise as [`read_many_into`](Aio::read_many_into).
    pub fn write_many_into<'b>(
        &self,
        file: &impl AsFd,
        pieces: impl IntoIterator<Item = (&'b [u8], u64)>,
        results: &mut Vec<io::Result<usize>>,
    ) {
        let pieces = pieces.into_iter();
        self.scope(|s| {
            let writes = pieces.map(|(buf, offset)| s.write_at(file, buf, offset));
            s.wait_for_all(writes, results);
        });
    }
}
