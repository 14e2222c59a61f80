//! The committed bindings, of both byte orders; `abi.rs` asserts only the one it is built for.

use std::mem::{offset_of, size_of};

/// Makes a module of a committed file and a test of its `struct iocb`.
macro_rules! committed {
    ($order:ident, $file:literal, key: $key:literal, rw_flags: $rw_flags:literal) => {
        mod $order {
            #![allow(warnings, reason = "generated code, of which one type is used")]
            #![allow(clippy::allow_attributes_without_reason, reason = "generated code")]
            include!(concat!("../../src/sys/bindings/", $file));
        }

        #[test]
        fn $order() {
            use $order::iocb;
            assert_eq!(size_of::<iocb>(), 64);
            assert_eq!(offset_of!(iocb, aio_key), $key);
            assert_eq!(offset_of!(iocb, aio_rw_flags), $rw_flags);
            assert_eq!(offset_of!(iocb, aio_lio_opcode), 16);
        }
    };
}

committed!(little_endian, "little_endian.rs", key: 8, rw_flags: 12);
committed!(big_endian, "big_endian.rs", key: 12, rw_flags: 8);
