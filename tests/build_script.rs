//! What the build script accepts of generated bindings: everything that says the same as the committed copy,
//! however it is written, and nothing else. `.ci/builds` runs it with headers and compilers that fail.

#[path = "../build/items.rs"]
mod items;

use items::compare;

const COMMITTED: [&str; 2] = [
    include_str!("../src/sys/bindings/little_endian.rs"),
    include_str!("../src/sys/bindings/big_endian.rs"),
];

/// The committed copy with one piece of its text replaced.
fn with(old: &str, new: &str) -> String {
    let text = COMMITTED[0].replace(old, new);
    assert_ne!(text, COMMITTED[0], "{old:?} is not in the bindings");
    text
}

#[track_caller]
fn differs(generated: &str, expected: &str) {
    let error = compare(COMMITTED[0], generated).unwrap_err();
    assert_eq!(error, format!("the kernel's header {expected}"));
}

#[test]
fn the_same_text_is_accepted() {
    for text in COMMITTED {
        compare(text, text).unwrap();
    }
}

#[test]
fn formatting_and_order_do_not_matter() {
    let one_line = COMMITTED[0].lines().skip(1).collect::<Vec<_>>().join(" ");
    compare(COMMITTED[0], &one_line).unwrap();
    let spaced = with(":", " : ").replace(" :  : ", "::").replace(';', " ;");
    compare(COMMITTED[0], &spaced).unwrap();
    let mut consts: Vec<_> = one_line.split_inclusive(';').collect();
    consts[..12].reverse();
    compare(COMMITTED[0], &consts.concat()).unwrap();
}

#[test]
fn names_of_intermediate_types_do_not_matter() {
    compare(COMMITTED[0], &with("_bindgen_ty_1", "_bindgen_ty_7")).unwrap();
    compare(COMMITTED[0], &with("__kernel_ulong_t", "ulong")).unwrap();
    let alias = "pub type __kernel_rwf_t = i32;\npub const RWF_SYNC: __kernel_rwf_t";
    compare(COMMITTED[0], &with("pub const RWF_SYNC: i32", alias)).unwrap();
}

#[test]
fn more_constants_than_committed_are_accepted() {
    let newer = format!("{}pub const RWF_NEW: i32 = 512;\n", COMMITTED[0]);
    compare(COMMITTED[0], &newer).unwrap();
}

#[test]
fn what_is_missing_or_different_is_named() {
    differs(&with("RWF_NOSIGNAL", "RWF_QUIET"), "has no RWF_NOSIGNAL");
    differs(
        &with("PREADV: _bindgen_ty_1 = 7", "PREADV: _bindgen_ty_1 = 9"),
        "has another IOCB_CMD_PREADV",
    );
    differs(
        &with("RWF_SYNC: i32", "RWF_SYNC: u32"),
        "has another RWF_SYNC",
    );
    differs(
        &with("aio_rw_flags: i32", "aio_reserved1: u32"),
        "has another iocb",
    );
    differs(&with("    pub aio_resfd: u32,\n", ""), "has another iocb");
    differs(
        &with(
            "__kernel_ulong_t = ::core::ffi::c_ulong",
            "__kernel_ulong_t = u32",
        ),
        "has another aio_context_t",
    );
    let bytes = with("_bindgen_ty_1 = ::core::ffi::c_uint", "_bindgen_ty_1 = u8");
    let error = compare(COMMITTED[0], &bytes).unwrap_err();
    assert_eq!(error.matches("has another IOCB_CMD_").count(), 8, "{error}");
    differs(COMMITTED[1], "has another iocb");
    assert!(compare(COMMITTED[0], "").is_err());
}

#[test]
fn an_alias_of_itself_is_different_and_does_not_hang() {
    let endless = with(
        "type __kernel_ulong_t = ::core::ffi::c_ulong",
        "type __kernel_ulong_t = __kernel_ulong_t",
    );
    assert!(compare(COMMITTED[0], &endless).is_err());
}

#[test]
fn a_struct_without_its_representation_is_different() {
    differs(
        &COMMITTED[0].replacen("#[repr(C)]\n", "", 1),
        "has another io_event",
    );
    let attribute = "#[derive(Debug, Default, Copy, Clone)]\npub struct iocb";
    differs(
        &with(attribute, "#[derive(Debug, Copy, Clone)]\npub struct iocb"),
        "has another iocb",
    );
}
