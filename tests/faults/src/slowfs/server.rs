//! The FUSE side: a flat directory of files in memory.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::state::{Job, Op, Reply, Seen, Shared};
use crate::fuse::{allow_asynchronous, attributes};

/// Nobody but the kernel changes a file, so it may remember what it knows for the life of a test.
const FOREVER: Duration = Duration::from_secs(86_400);
const FIRST_INODE: u64 = 2;

#[derive(Debug)]
pub(super) struct Server(pub(super) Arc<Shared>);

impl Server {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        if inode == INodeNo::ROOT {
            return Some(attributes(inode, FileType::Directory, 0o755, 0));
        }
        let state = self.0.lock();
        let node = state.nodes.get(index(inode)?)?;
        Some(attributes(
            inode,
            FileType::RegularFile,
            0o666,
            node.data.len() as u64,
        ))
    }

    fn arrive(&self, inode: INodeNo, op: Op, offset: u64, len: usize, reply: Reply) {
        // The kernel knows no other inodes than those that lookup gave out.
        let node = index(inode).expect("a file's inode");
        let file = self.0.lock().nodes[node].name.clone();
        self.0.arrive(Job {
            seen: Seen {
                op,
                file,
                offset,
                len,
            },
            node,
            reply,
        });
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        allow_asynchronous(config)
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let node = name.to_str().and_then(|name| self.0.lock().node(name));
        match node.and_then(|node| self.attributes(INodeNo(node as u64 + FIRST_INODE))) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
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
        if let (Some(size), Some(node)) = (size, index(inode)) {
            self.0.lock().nodes[node].data.resize(size as usize, 0);
        }
        self.getattr(request, inode, handle, reply);
    }

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
        self.arrive(inode, Op::Read, offset, size as usize, Reply::Read(reply));
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.arrive(
            inode,
            Op::Write,
            offset,
            data.len(),
            Reply::Write(data.to_vec(), reply),
        );
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.arrive(inode, Op::Sync, 0, 0, Reply::Sync(reply));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}

fn index(inode: INodeNo) -> Option<usize> {
    usize::try_from(inode.0.checked_sub(FIRST_INODE)?).ok()
}
