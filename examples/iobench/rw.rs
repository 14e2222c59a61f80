//! What is done to the file.

use std::str::FromStr;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Rw {
    RandRead,
    RandWrite,
    Read,
    Write,
}

impl Rw {
    const ALL: [Rw; 4] = [Rw::RandRead, Rw::RandWrite, Rw::Read, Rw::Write];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Rw::RandRead => "randread",
            Rw::RandWrite => "randwrite",
            Rw::Read => "read",
            Rw::Write => "write",
        }
    }

    pub(crate) fn verb(self) -> &'static str {
        if self.writes() { "write" } else { "read" }
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, Rw::RandWrite | Rw::Write)
    }

    pub(crate) fn random(self) -> bool {
        matches!(self, Rw::RandRead | Rw::RandWrite)
    }
}

impl FromStr for Rw {
    type Err = String;

    fn from_str(text: &str) -> Result<Rw, String> {
        let known = Rw::ALL.into_iter().find(|rw| rw.name() == text);
        known.ok_or_else(|| "--rw is one of randread, randwrite, read, write".into())
    }
}
