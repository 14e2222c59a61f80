//! The FUSE side of the disk.

use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::queue::{Shared, State, Waiting};
use crate::fuse::{allow_asynchronous, attributes};

/// A power cut changes names and lengths, so the kernel may remember nothing.
const NOT: Duration = Duration::ZERO;

#[derive(Debug)]
pub(super) struct Server(pub(super) Arc<Shared>);

type Answer<T> = Result<T, Errno>;

impl Server {
    /// The disk, if it has power.
    fn state(&self) -> Answer<MutexGuard<'_, State>> {
        let state = self.0.lock();
        if state.has_power {
            Ok(state)
        } else {
            Err(Errno::EIO)
        }
    }

    fn attributes(&self, inode: INodeNo) -> Answer<FileAttr> {
        let state = self.state()?;
        if inode == INodeNo::ROOT {
            return Ok(attributes(inode, FileType::Directory, 0o755, 0));
        }
        let file = state.disk.file(inode.0).ok_or(Errno::ENOENT)?;
        let length = file.len() as u64;
        Ok(attributes(inode, FileType::RegularFile, 0o666, length))
    }

    fn find(&self, name: &OsStr) -> Answer<FileAttr> {
        let name = utf8(name)?;
        let number = self.state()?.disk.names().get(name).copied();
        self.attributes(INodeNo(number.ok_or(Errno::ENOENT)?))
    }

    fn make(&self, name: &OsStr) -> Answer<FileAttr> {
        let name = utf8(name)?;
        let number = self.state()?.disk.create(name);
        self.attributes(INodeNo(number))
    }

    fn resize(&self, inode: INodeNo, length: u64) -> Answer<()> {
        let length = usize::try_from(length).map_err(|_| Errno::EFBIG)?;
        self.state()?.disk.resize(inode.0, length);
        Ok(())
    }

    fn reserve(&self, inode: INodeNo, end: u64, mode: i32) -> Answer<()> {
        match mode {
            0 if self.attributes(inode)?.size < end => self.resize(inode, end),
            0 | libc::FALLOC_FL_KEEP_SIZE => Ok(()),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn unlink_name(&self, name: &OsStr) -> Answer<()> {
        let was_there = self.state()?.disk.unlink(utf8(name)?);
        was_there.then_some(()).ok_or(Errno::ENOENT)
    }

    fn rename_name(&self, from: &OsStr, to: &OsStr) -> Answer<()> {
        let was_there = self.state()?.disk.rename(utf8(from)?, utf8(to)?);
        was_there.then_some(()).ok_or(Errno::ENOENT)
    }
}

fn utf8(name: &OsStr) -> Answer<&str> {
    name.to_str().ok_or(Errno::EINVAL)
}

fn reply_empty(reply: ReplyEmpty, answer: Answer<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        allow_asynchronous(config)
    }

    // ---- names ------------------------------------------------------------------------------------------

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(name) {
            Ok(attributes) => reply.entry(&NOT, &attributes, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.make(name) {
            Ok(attributes) => {
                let (handle, flags) = (FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
                reply.created(&NOT, &attributes, Generation(0), handle, flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, self.unlink_name(name));
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        from: &OsStr,
        _: INodeNo,
        to: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply_empty(reply, self.rename_name(from, to));
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let names = match self.state() {
            Ok(state) => state.disk.names().clone(),
            Err(errno) => return reply.error(errno),
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (place, (name, number)) in (1..).zip(names).skip(from) {
            if reply.add(INodeNo(number), place, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = self.state().map(|mut state| state.disk.sync_names());
        reply_empty(reply, synced);
    }

    // ---- attributes -------------------------------------------------------------------------------------

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Ok(attributes) => reply.attr(&NOT, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match size.map_or(Ok(()), |size| self.resize(inode, size)) {
            Ok(()) => self.getattr(request, inode, handle, reply),
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        reply_empty(reply, self.reserve(inode, offset + length, mode));
    }

    // ---- bytes ------------------------------------------------------------------------------------------

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (offset, len) = (offset as usize, size as usize);
        match self.state() {
            Ok(state) => match state.disk.file(inode.0) {
                Some(file) => reply.data(&file.read(offset, len)),
                None => reply.error(Errno::ESTALE),
            },
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.0.arrive(Waiting::Write {
            file: inode.0,
            offset: offset as usize,
            bytes: data.to_vec(),
            // Of the file, or of this write alone (RWF_DSYNC).
            is_durable: flags.0 & libc::O_DSYNC != 0,
            reply,
        });
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let up_to = self.0.lock().disk.completed();
        self.0.arrive(Waiting::Sync {
            file: inode.0,
            up_to,
            reply,
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
