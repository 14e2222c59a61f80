//! What `/proc` tells of this process.

use std::fs;
use std::path::{Path, PathBuf};

/// What each thread is doing, as far as the kernel tells: not every kernel has the system call.
pub(crate) fn threads() -> String {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let lines = tasks.flatten().map(|task| {
        let path = task.path();
        format!(
            "  {:16} {} system call {}",
            read(path.join("comm")).trim(),
            if is_asleep(&path) { "asleep" } else { "awake" },
            read(path.join("syscall")).trim()
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// How many threads this process has.
pub(crate) fn count_threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Whether that thread sleeps, or has ended since.
pub(crate) fn is_asleep(task: &Path) -> bool {
    let stat = fs::read_to_string(task.join("stat"));
    // The state follows the name, which is in parentheses and may contain some.
    stat.map_or(true, |stat| {
        stat.rsplit(") ").next().unwrap().starts_with('S')
    })
}

/// How many kernel contexts this process has: their rings are in its memory map.
pub(crate) fn count_contexts() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("[aio]")).count()
}
