//! Where files go that were not asked for by name.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Whether a file of that name is there and can be written, or can be made.
pub(crate) fn check_writable(path: &Path) -> io::Result<()> {
    match File::create_new(path) {
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            File::options().write(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// A path in the build's own folder (`target`); in the current one when run from elsewhere.
pub(crate) fn beside_the_build(name: &str) -> PathBuf {
    let Ok(program) = std::env::current_exe() else {
        return name.into();
    };
    // target/release/examples/iobench
    let examples = program
        .parent()
        .filter(|folder| folder.ends_with("examples"));
    let Some(build) = examples.and_then(|folder| folder.ancestors().nth(2)) else {
        return name.into();
    };
    let here = std::env::current_dir().unwrap_or_default();
    build.strip_prefix(here).unwrap_or(build).join(name)
}
