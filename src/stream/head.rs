//! What a file has before a stream that begins inside one of its blocks.

use super::block::Block;
use super::options::Plan;
use crate::aio::Aio;
use crate::direct::DirectFile;
use crate::op::Read;
use std::io;
use std::sync::Arc;

/// A block of the file, with the bytes that it has before the stream begins; zeroes where that is its beginning.
pub(super) fn read(aio: &Aio, plan: &Plan, file: &Arc<DirectFile>) -> io::Result<Box<[u8]>> {
    let size = plan.round_up(plan.align);
    let mut head = vec![0; size].into_boxed_slice();
    let start = plan.round_down(plan.start);
    if start != plan.start {
        let mut block = Block::try_new(size, plan.memory)?;
        block.ask(size);
        let block = read_block(aio, file, block, start)?;
        head[..block.filled().len()].copy_from_slice(block.filled());
    }
    Ok(head)
}

fn read_block(aio: &Aio, file: &Arc<DirectFile>, block: Block, at: u64) -> io::Result<Block> {
    let read = aio.alloc().init_rw(Arc::clone(file), Read, block, at);
    let read = read.read_exact().wait()?;
    match read.result {
        // The file may end here, or before: then a hole is between.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(read.buf),
    }
}
