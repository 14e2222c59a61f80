// Made by bindgen from wrapper.h. How to change it: CONTRIBUTING.md, Bindings.

pub const IOCB_FLAG_RESFD: u32 = 1;
pub const IOCB_FLAG_IOPRIO: u32 = 2;
pub type __kernel_ulong_t = ::core::ffi::c_ulong;
pub type aio_context_t = __kernel_ulong_t;
pub const IOCB_CMD_PREAD: _bindgen_ty_1 = 0;
pub const IOCB_CMD_PWRITE: _bindgen_ty_1 = 1;
pub const IOCB_CMD_FSYNC: _bindgen_ty_1 = 2;
pub const IOCB_CMD_FDSYNC: _bindgen_ty_1 = 3;
pub const IOCB_CMD_POLL: _bindgen_ty_1 = 5;
pub const IOCB_CMD_NOOP: _bindgen_ty_1 = 6;
pub const IOCB_CMD_PREADV: _bindgen_ty_1 = 7;
pub const IOCB_CMD_PWRITEV: _bindgen_ty_1 = 8;
pub type _bindgen_ty_1 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct io_event {
    pub data: u64,
    pub obj: u64,
    pub res: i64,
    pub res2: i64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct iocb {
    pub aio_data: u64,
    pub aio_key: u32,
    pub aio_rw_flags: i32,
    pub aio_lio_opcode: u16,
    pub aio_reqprio: i16,
    pub aio_fildes: u32,
    pub aio_buf: u64,
    pub aio_nbytes: u64,
    pub aio_offset: i64,
    pub aio_reserved2: u64,
    pub aio_flags: u32,
    pub aio_resfd: u32,
}
pub const RWF_HIPRI: i32 = 1;
pub const RWF_DSYNC: i32 = 2;
pub const RWF_SYNC: i32 = 4;
pub const RWF_NOWAIT: i32 = 8;
pub const RWF_APPEND: i32 = 16;
pub const RWF_NOAPPEND: i32 = 32;
pub const RWF_ATOMIC: i32 = 64;
pub const RWF_DONTCACHE: i32 = 128;
pub const RWF_NOSIGNAL: i32 = 256;
