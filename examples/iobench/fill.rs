//! Filling a file with self-describing blocks.
//!
//! The mark in block 0 never says more than what is on the disk: it says "unfinished" before anything else is
//! overwritten, and is set when everything is there. A run that is killed is known for what it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use kiocb::AlignedBuf;

use crate::Result;
use crate::block::{self, BLOCK, Mark};
use crate::growth::Growth;
use crate::interrupt;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::target::{Kind, explain, open};
use crate::units;

const CHUNK: usize = 1 << 20;

/// Writes the blocks from `from` to the plan's length.
pub(crate) fn fill(
    path: &Path,
    kind: Kind,
    plan: &Plan,
    from: u64,
    mut growth: Option<&mut Growth>,
) -> Result<()> {
    let kept = match growth {
        Some(_) => "; it is kept for the next run",
        None => "",
    };
    let (name, bytes) = (path.display(), units::size(plan.length - from));
    eprintln!("iobench: filling {name} with {bytes} of self-describing blocks{kept}");
    let (file, _) = open(path, kind, true, BLOCK)?;
    if from == 0 {
        let unfinished = Mark {
            filled: 0,
            ..plan.mark
        };
        write_mark(&file, unfinished).map_err(|error| explain(path, error))?;
    }
    if let Some(growth) = &mut growth {
        growth.reserve(plan.length)?;
    }
    let from = from.max(BLOCK as u64);
    write_blocks(path, &file, from, plan, growth.as_deref())?;
    let finished = file
        .sync_all()
        .and_then(|()| write_mark(&file, plan.mark))
        .and_then(|()| file.sync_all());
    finished.map_err(|error| explain(path, error))
}

/// Writes block 0.
pub(crate) fn write_mark(file: &File, mark: Mark) -> io::Result<()> {
    let mut first = AlignedBuf::zeroed(BLOCK);
    block::fill_payload(&mut first);
    block::stamp(&mut first, 0, mark);
    file.write_all_at(&first, 0)
}

fn write_blocks(
    path: &Path,
    file: &File,
    from: u64,
    plan: &Plan,
    growth: Option<&Growth>,
) -> Result<()> {
    let progress = Progress::of(plan.length);
    progress.name("filling");
    let started = Instant::now();
    let mut chunk = AlignedBuf::zeroed(CHUNK);
    block::fill_payload(&mut chunk);
    let mut offset = from;
    while offset < plan.length {
        interrupt::check()?;
        growth.map_or(Ok(()), Growth::check)?;
        let part = usize::try_from(plan.length - offset).map_or(CHUNK, |left| left.min(CHUNK));
        block::stamp(&mut chunk[..part], offset, plan.mark);
        let written = file.write_all_at(&chunk[..part], offset);
        written.map_err(|error| explain(path, error))?;
        offset += part as u64;
        let rate = (offset - from) as f64 / started.elapsed().as_secs_f64();
        progress.at(offset, &format!("{:.0} MiB/s", rate / f64::from(1 << 20)));
    }
    progress.finish();
    Ok(())
}
