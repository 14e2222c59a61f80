//! What the figures were taken on.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

/// Lines for the head of a record.
pub(crate) fn about() -> String {
    let processors = available_parallelism().map_or(1, usize::from);
    let lines = [
        ("date", output("date", &["-u", "+%F %H:%M UTC"])),
        ("commit", commit()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("processor", format!("{} x {}", processors, model())),
        ("memory", memory()),
        ("compiler", output("rustc", &["--version"])),
        ("load average before", load_average()),
    ];
    lines
        .map(|(name, value)| format!("# {name}: {value}\n"))
        .concat()
}

/// Of the last minute, five minutes, and fifteen.
pub(crate) fn load_average() -> String {
    let text = read("/proc/loadavg");
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn commit() -> String {
    let short = output("git", &["rev-parse", "--short", "HEAD"]);
    let changed = !output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    short + if changed { ", with changes" } else { "" }
}

fn model() -> String {
    field("/proc/cpuinfo", "model name")
}

fn memory() -> String {
    let text = field("/proc/meminfo", "MemTotal");
    let kib: u64 = text.trim_end_matches(" kB").parse().unwrap_or(0);
    format!("{} GiB", kib >> 20)
}

/// The value of the first line that begins with `name`.
fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or("unknown".into(), |(_, value)| value.trim().to_owned())
}

fn read(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown".into())
}
