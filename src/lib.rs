//! The Linux kernel's native AIO (`io_setup`, `io_submit`, `io_getevents`), made safe, complete and as fast as the raw system calls.

pub mod sys;
