//! Refuses system calls, as container runtimes do.
#![allow(dead_code, reason = "no test file needs all of it")]

use std::io;

/// Makes one system call fail with `errno` in this thread, for good.
pub(crate) fn refuse(call: libc::c_long, errno: i32) {
    filter(
        call,
        libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap(),
    );
}

/// Makes one system call raise SIGSYS in this thread instead of being carried out, for good.
pub(crate) fn trap(call: libc::c_long) {
    filter(call, libc::SECCOMP_RET_TRAP);
}

fn filter(call: libc::c_long, action: u32) {
    let call = u32::try_from(call).unwrap();
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let mut program = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call, 0, 1),
        op(libc::BPF_RET | libc::BPF_K, action, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: 4,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
    // SAFETY: the filter and its four instructions outlive the call, which copies them.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}
