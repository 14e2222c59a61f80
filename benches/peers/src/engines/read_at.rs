//! kiocb's `read_at`: many threads on the one context of the process, each waits for its own block.

use std::io;
use std::sync::Arc;

use kiocb::Aio;

use super::on_threads;
use crate::job::Job;

pub(super) fn on_one_context(job: &Arc<Job>) -> io::Result<()> {
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
