//! What is measured: the file system and the device under the file, as /proc and /sys tell.

use std::fmt;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use crate::target::Kind;

pub(crate) struct Medium {
    text: String,
    /// Whether the kernel carries out a request inside the system call that asks for it.
    pub(crate) answers_at_once: bool,
}

impl Medium {
    pub(crate) fn of(file: &File, kind: Kind) -> Medium {
        let (text, answers_at_once) = match kind {
            Kind::CharDevice => ("a character device: no medium behind it".into(), true),
            Kind::BlockDevice => (of_device(file), false),
            Kind::File => of_file(file),
        };
        Medium {
            text,
            answers_at_once,
        }
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

fn of_device(file: &File) -> String {
    let number = file.metadata().map_or(0, |metadata| metadata.rdev());
    let device = Device::of_number(&format!("{}:{}", major(number), minor(number)));
    device.map_or("a block device".into(), |device| {
        format!("block device {device}")
    })
}

fn of_file(file: &File) -> (String, bool) {
    let Some(mount) = Mount::of(file) else {
        return ("unknown, as /proc does not tell".into(), false);
    };
    let kind = &mount.kind;
    if matches!(&**kind, "tmpfs" | "ramfs") {
        return (format!("{kind}, in memory"), true);
    }
    let device = Device::of_number(&mount.number).or_else(|| Device::of_source(&mount.source));
    let text = match device {
        Some(device) => format!("{kind} on {device}"),
        None => format!("{kind} ({})", mount.source),
    };
    (text, false)
}

/// A line of /proc/self/mountinfo.
struct Mount {
    /// `major:minor`; no device's on Btrfs, overlays, network file systems.
    number: String,
    kind: String,
    source: String,
}

impl Mount {
    fn of(file: &File) -> Option<Mount> {
        let about = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
        let about = fs::read_to_string(about).ok()?;
        let id = about
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:"))?;
        let id = id.trim();
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mut lines = mounts.lines();
        let line = lines.find(|line| line.split(' ').next() == Some(id))?;
        let (place, what) = line.split_once(" - ")?;
        let mut what = what.split(' ').map(str::to_owned);
        Some(Mount {
            number: place.split(' ').nth(2)?.to_owned(),
            kind: what.next()?,
            source: what.next()?,
        })
    }
}

/// A block device, by its folder in /sys.
struct Device(PathBuf);

impl Device {
    fn of_number(number: &str) -> Option<Device> {
        let folder = Path::new("/sys/dev/block").join(number);
        folder.canonicalize().ok().map(Device)
    }

    /// `/dev/…`, perhaps through links.
    fn of_source(source: &str) -> Option<Device> {
        let device = Path::new(source).canonicalize().ok()?;
        let folder = Path::new("/sys/class/block").join(device.file_name()?);
        folder.canonicalize().ok().map(Device)
    }

    /// Its own line in a file of the folder, or the whole disk's where it is a partition.
    fn ask(&self, name: &str) -> Option<String> {
        let whole = match self.0.join("partition").exists() {
            true => self.0.parent()?,
            false => &self.0,
        };
        let text = fs::read_to_string(whole.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.file_name().unwrap_or_default();
        write!(out, "/dev/{}", name.display())?;
        let model = self.ask("device/model");
        let backing = self.ask("loop/backing_file");
        let backing = backing.map(|file| format!("over {file}"));
        let rotates = self.ask("queue/rotational");
        let rotates = rotates.map(|rotates| match &*rotates {
            "0" => "does not rotate".to_owned(),
            _ => "says that it rotates".to_owned(),
        });
        let known: Vec<_> = [model, backing, rotates].into_iter().flatten().collect();
        match known.is_empty() {
            true => Ok(()),
            false => write!(out, " ({})", known.join(", ")),
        }
    }
}
