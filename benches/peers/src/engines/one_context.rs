//! kiocb with one context for all threads: `read_at`, where each thread waits for its own block, and batches,
//! where each keeps as many in flight as the depth says.

use std::io;
use std::sync::Arc;

use kiocb::Aio;

use super::{batch, on_threads};
use crate::job::Job;

pub(super) fn read_at(job: &Arc<Job>) -> io::Result<()> {
    let aio = Aio::global()?;
    on_threads(job.threads, |index| {
        for mut slot in job.slots(index) {
            let mut buffer = job.buffer();
            while slot.goes_on() {
                let offset = slot.begin(&mut buffer);
                let result = aio.read_at(&job.file, &mut buffer, offset);
                slot.end(result, &buffer);
            }
        }
        Ok(())
    })
}

pub(super) fn batches(job: &Arc<Job>) -> io::Result<()> {
    let all = u32::try_from(job.depth * job.threads).map_err(io::Error::other)?;
    batch::run_on(Aio::builder().depth(all).build()?, job)
}
