//! The disk: files by their numbers, and names for them, both as they are and as they are on the medium.

use std::collections::BTreeMap;

use super::file::File;
use crate::random::Random;

/// Which file a name stands for.
type Names = BTreeMap<String, u64>;

/// A flat directory of files. A number is never used again.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    files: BTreeMap<u64, File>,
    /// What the directory was since it was last synced, oldest first. The first is on the medium, and the last is
    /// what a lookup sees.
    names: Vec<Names>,
    next: u64,
    completed: u64,
}

impl Disk {
    /// An empty one, whose first file will have this number.
    pub(super) fn new(first: u64) -> Disk {
        Disk {
            files: BTreeMap::new(),
            names: vec![Names::new()],
            next: first,
            completed: 0,
        }
    }

    /// How many changes are complete: the moment at which a sync is asked for.
    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    fn complete(&mut self) -> u64 {
        self.completed += 1;
        self.completed
    }

    // ---- names ------------------------------------------------------------------------------------------

    pub(super) fn names(&self) -> &Names {
        self.names.last().expect("there is at least one")
    }

    fn change_names(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.names().clone();
        change(&mut names);
        self.names.push(names);
    }

    pub(super) fn create(&mut self, name: &str) -> u64 {
        let number = self.next;
        self.next += 1;
        self.files.insert(number, File::default());
        self.change_names(|names| {
            names.insert(name.to_owned(), number);
        });
        number
    }

    /// False where there is no such name.
    pub(super) fn unlink(&mut self, name: &str) -> bool {
        let is_there = self.names().contains_key(name);
        if is_there {
            self.change_names(|names| {
                names.remove(name);
            });
        }
        is_there
    }

    /// False where there is no such name.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(&number) = self.names().get(from) else {
            return false;
        };
        self.change_names(|names| {
            names.remove(from);
            names.insert(to.to_owned(), number);
        });
        true
    }

    pub(super) fn sync_names(&mut self) {
        self.names.drain(..self.names.len() - 1);
    }

    // ---- files ------------------------------------------------------------------------------------------

    pub(super) fn file(&self, number: u64) -> Option<&File> {
        self.files.get(&number)
    }

    pub(super) fn write(&mut self, file: u64, offset: usize, bytes: Vec<u8>, is_durable: bool) {
        let number = self.complete();
        if let Some(file) = self.files.get_mut(&file) {
            file.write(number, offset, bytes, is_durable);
        }
    }

    pub(super) fn resize(&mut self, file: u64, length: usize) {
        let number = self.complete();
        if let Some(file) = self.files.get_mut(&file) {
            file.resize(number, length);
        }
    }

    /// Makes durable what was complete at that moment.
    pub(super) fn sync(&mut self, file: u64, up_to: u64) {
        if let Some(file) = self.files.get_mut(&file) {
            file.sync(up_to);
        }
    }

    // ---- the power cut ----------------------------------------------------------------------------------

    /// The power fails: files keep what is on the medium, and the directory is as it was at some moment since its
    /// last sync. Files without a name are gone.
    pub(super) fn cut(&mut self, random: &mut Random) {
        let names = self.names.swap_remove(random.below(self.names.len()));
        self.files
            .retain(|number, _| names.values().any(|named| named == number));
        self.files.values_mut().for_each(|file| file.cut(random));
        self.names = vec![names];
    }
}
