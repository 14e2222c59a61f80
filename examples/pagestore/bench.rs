//! `bench`.

use crate::Result;
use crate::options::Options;

pub(crate) fn run(_options: &Options) -> Result<()> {
    Err("not there yet".into())
}
