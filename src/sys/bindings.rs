//! What bindgen makes of `wrapper.h`, or its committed copy (`build.rs` decides). Typed and documented in
//! `abi.rs`.

#![allow(
    missing_docs,
    non_camel_case_types,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
