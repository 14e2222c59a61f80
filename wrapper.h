/*
 * What bindgen reads. One kernel header holds the whole AIO interface: struct iocb, struct io_event,
 * aio_context_t, IOCB_CMD_* and IOCB_FLAG_*. All of it is there since Linux 4.19; with an older
 * header the committed bindings are used.
 */

/*
 * The kernel's names for integers, under the names that bindgen knows to be u64 and so on. The header
 * defines them itself, so <stdint.h> must not be read as well.
 */
#define __u64 uint64_t
#define __s64 int64_t
#define __u32 uint32_t
#define __u16 uint16_t
#define __s16 int16_t
#define __kernel_rwf_t int32_t

#include <linux/version.h>
#include <linux/aio_abi.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(4, 19, 0)
#error the kernel headers are older than Linux 4.19
#endif

/*
 * RWF_*, the values of iocb.aio_rw_flags, need help: <linux/fs.h> has them as macros with a cast, which
 * bindgen skips, and a distribution's header ends where its kernel did (Debian 12: RWF_APPEND). So
 * each is a constant here, up to the newest kernel; where the header has it too, the two must agree.
 */
#ifdef RWF_HIPRI
_Static_assert(RWF_HIPRI == 0x1, "RWF_HIPRI");
#undef RWF_HIPRI
#endif
static const __kernel_rwf_t RWF_HIPRI = 0x1; /* 4.13 */

#ifdef RWF_DSYNC
_Static_assert(RWF_DSYNC == 0x2, "RWF_DSYNC");
#undef RWF_DSYNC
#endif
static const __kernel_rwf_t RWF_DSYNC = 0x2; /* 4.13 */

#ifdef RWF_SYNC
_Static_assert(RWF_SYNC == 0x4, "RWF_SYNC");
#undef RWF_SYNC
#endif
static const __kernel_rwf_t RWF_SYNC = 0x4; /* 4.13 */

#ifdef RWF_NOWAIT
_Static_assert(RWF_NOWAIT == 0x8, "RWF_NOWAIT");
#undef RWF_NOWAIT
#endif
static const __kernel_rwf_t RWF_NOWAIT = 0x8; /* 4.13 */

#ifdef RWF_APPEND
_Static_assert(RWF_APPEND == 0x10, "RWF_APPEND");
#undef RWF_APPEND
#endif
static const __kernel_rwf_t RWF_APPEND = 0x10; /* 4.16 */

#ifdef RWF_NOAPPEND
_Static_assert(RWF_NOAPPEND == 0x20, "RWF_NOAPPEND");
#undef RWF_NOAPPEND
#endif
static const __kernel_rwf_t RWF_NOAPPEND = 0x20; /* 6.9 */

#ifdef RWF_ATOMIC
_Static_assert(RWF_ATOMIC == 0x40, "RWF_ATOMIC");
#undef RWF_ATOMIC
#endif
static const __kernel_rwf_t RWF_ATOMIC = 0x40; /* 6.11 */

#ifdef RWF_DONTCACHE
_Static_assert(RWF_DONTCACHE == 0x80, "RWF_DONTCACHE");
#undef RWF_DONTCACHE
#endif
static const __kernel_rwf_t RWF_DONTCACHE = 0x80; /* 6.14 */

#ifdef RWF_NOSIGNAL
_Static_assert(RWF_NOSIGNAL == 0x100, "RWF_NOSIGNAL");
#undef RWF_NOSIGNAL
#endif
static const __kernel_rwf_t RWF_NOSIGNAL = 0x100; /* 6.18 */
