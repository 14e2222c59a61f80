//! What is to be done to a file before the engines run: how much of it is used, what is filled, and whether
//! there is room for it.

use std::path::Path;

use crate::Result;
use crate::block::{BLOCK, Mark};
use crate::options::Options;
use crate::room::{self, Room};
use crate::target::{Found, Kind, explain};
use crate::units;

const DEFAULT_SIZE: u64 = 1 << 30;
/// What a smaller file would show is its metadata's speed.
const LEAST_SIZE: u64 = 1 << 20;

pub(crate) struct Plan {
    /// How much is used.
    pub(crate) length: u64,
    /// What the file will say of itself.
    pub(crate) mark: Mark,
    /// Where filling begins; `None`: nothing is filled.
    pub(crate) fill_from: Option<u64>,
}

impl Plan {
    pub(crate) fn new(options: &Options, path: &Path, found: Option<&Found>) -> Result<Plan> {
        let plan = match found {
            None => Plan::for_ours(options, path, None, 0),
            Some(Found {
                mark: Some(Mark { filled, ours: true }),
                ..
            }) => Plan::for_ours(options, path, found, *filled),
            Some(found) if options.rw.writes() => Plan::for_overwriting(options, path, found),
            Some(found) => Plan::for_reading(options, path, found),
        }?;
        if plan.length < options.bs as u64 {
            let (path, bs) = (path.display(), units::size(options.bs as u64));
            let length = units::size(plan.length);
            return Err(format!("{path}: {length} are too small for one request of {bs}").into());
        }
        Ok(plan)
    }

    /// What iobench made, or makes.
    fn for_ours(
        options: &Options,
        path: &Path,
        found: Option<&Found>,
        filled: u64,
    ) -> Result<Plan> {
        let space = Space::of(path, found.map_or(0, |found| found.allocated))?;
        let known = [filled, found.map_or(0, |found| found.length)];
        let known = known.into_iter().find(|&bytes| bytes > 0);
        let usual = known.filter(|_| options.file.is_some());
        let length = match options.size {
            Some(size) => space.check(path, whole_blocks(size))?,
            None => space.adapt(path, usual.unwrap_or(DEFAULT_SIZE))?,
        };
        let mark = |filled| Mark { filled, ours: true };
        Ok(if length <= filled {
            Plan {
                length,
                mark: mark(filled),
                fill_from: None,
            }
        } else {
            Plan {
                length,
                mark: mark(length),
                fill_from: Some(whole_blocks(filled)),
            }
        })
    }

    /// What somebody else made, and iobench is told to overwrite.
    fn for_overwriting(options: &Options, path: &Path, found: &Found) -> Result<Plan> {
        if !options.yes {
            return Err(format!(
                "{}: not made by iobench, and --rw {} would overwrite it; add --yes if that is meant",
                path.display(),
                options.rw.name()
            )
            .into());
        }
        let length = length_of_others(options, path, found)?;
        if found.kind == Kind::File {
            // It may have holes.
            Space::of(path, found.allocated)?.check(path, length)?;
        }
        // Filled first, so that a later run can check what it reads.
        let filled = found.mark.map_or(0, |mark| mark.filled);
        let fills = options.verify && found.kind != Kind::CharDevice;
        let length = if fills { whole_blocks(length) } else { length };
        let ours = false;
        Ok(if fills && filled < length {
            Plan {
                length,
                mark: Mark {
                    filled: length,
                    ours,
                },
                fill_from: Some(0),
            }
        } else {
            Plan {
                length,
                mark: Mark { filled, ours },
                fill_from: None,
            }
        })
    }

    fn for_reading(options: &Options, path: &Path, found: &Found) -> Result<Plan> {
        let filled = found.mark.map_or(0, |mark| mark.filled);
        let length = match options.size {
            None if options.verify && filled > 0 => filled,
            _ => length_of_others(options, path, found)?,
        };
        if options.verify && length > filled {
            return Err(format!(
                "{}: not made by iobench, so what is read from it can't be checked; add --no-verify",
                path.display()
            )
            .into());
        }
        let ours = false;
        Ok(Plan {
            length,
            mark: Mark { filled, ours },
            fill_from: None,
        })
    }
}

/// Never more than there is: what is not ours is not made longer.
fn length_of_others(options: &Options, path: &Path, found: &Found) -> Result<u64> {
    let (path, there) = (path.display(), found.length);
    if there == 0 {
        return Err(format!(
            "{path}: is empty, and not made by iobench; remove it, or give --file a name that is free"
        )
        .into());
    }
    let whole = match found.kind {
        Kind::CharDevice => DEFAULT_SIZE,
        Kind::File | Kind::BlockDevice => there,
    };
    let wanted = options.size.unwrap_or(whole);
    if wanted > there {
        let (there, wanted) = (units::size(there), units::size(wanted));
        return Err(format!("{path}: has only {there}, not {wanted}; lower --size").into());
    }
    Ok(wanted)
}

fn whole_blocks(bytes: u64) -> u64 {
    bytes - bytes % BLOCK as u64
}

/// How long a file may become.
struct Space {
    room: Room,
    /// What it takes already.
    allocated: u64,
    /// What it may take, and still leave some free.
    fits: u64,
    longest: u64,
}

impl Space {
    fn of(path: &Path, allocated: u64) -> Result<Space> {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let place = match path.exists() {
            true => path,
            false => folder.unwrap_or(Path::new(".")),
        };
        let room = Room::at(place).map_err(|error| explain(path, error))?;
        let longest = room::longest_file();
        let fits = allocated.saturating_add(room.spare()).min(longest);
        Ok(Space {
            room,
            allocated,
            fits,
            longest,
        })
    }

    /// The length that was asked for, if it fits.
    fn check(&self, path: &Path, length: u64) -> Result<u64> {
        if length <= self.fits || length <= self.allocated {
            return Ok(length);
        }
        let (path, why) = (path.display(), self.why_not(length));
        let less = match self.round(self.fits) {
            0 => String::new(),
            fits => format!("--size {} fits; or ", units::option(fits)),
        };
        Err(format!("{path}: {why}; {less}choose another place with --file PATH").into())
    }

    /// The usual length, or less where it does not fit; says so.
    fn adapt(&self, path: &Path, usual: u64) -> Result<u64> {
        let fits = self.round(self.fits.max(self.allocated));
        if fits >= usual || fits < LEAST_SIZE {
            return self.check(path, whole_blocks(usual));
        }
        let (why, fits_text) = (self.why_not(usual), units::size(fits));
        eprintln!("iobench: {}: {why}; using {fits_text}", path.display());
        Ok(fits)
    }

    fn why_not(&self, length: u64) -> String {
        let wanted = units::size(length);
        if self.longest < length {
            let longest = units::size(self.longest);
            return format!(
                "{wanted} are more than the {longest} that a file may have (ulimit -f)"
            );
        }
        let Room { free, margin } = self.room;
        let (free, margin) = (units::size(free), units::size(margin));
        format!("{wanted} do not fit: {free} are free, and iobench leaves {margin} of them")
    }

    /// To a number that is short enough to type.
    fn round(&self, bytes: u64) -> u64 {
        let unit = if bytes < LEAST_SIZE {
            BLOCK as u64
        } else {
            LEAST_SIZE
        };
        bytes - bytes % unit
    }
}
