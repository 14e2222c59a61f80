//! Puts the kernel's AIO types into `OUT_DIR/bindings.rs`: generated from `wrapper.h` with the feature `bindgen`, else, and wherever
//! generating fails, copied from the committed files in `src/sys/bindings`. One warning says why it failed; the build goes on.
//!
//! There is a committed file for each byte order, because two fields of `struct iocb` change places. A developer rewrites both with
//! `.ci/bindings --write`, which sets `KIOCB_BINDINGS_DIR` to the folder they shall be written to.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where the committed copies are, below the crate's root.
const COMMITTED: &str = "src/sys/bindings";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-changed={COMMITTED}");
    let target =
        PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    match bindings() {
        Ok(text) => fs::write(target, text).expect("OUT_DIR can be written"),
        Err(reason) => {
            println!(
                "cargo::warning=kiocb uses its committed bindings, generating them failed: {reason}. \
                 Install libclang-dev and linux-libc-dev (Debian's names) to generate them, or turn the feature `bindgen` off."
            );
            fs::write(target, committed()).expect("OUT_DIR can be written");
        }
    }
}

/// The committed copy for the byte order that is built for.
fn committed() -> String {
    let order = env::var("CARGO_CFG_TARGET_ENDIAN").expect("cargo sets CARGO_CFG_TARGET_ENDIAN");
    let file = Path::new(COMMITTED).join(format!("{order}_endian.rs"));
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[cfg(not(feature = "bindgen"))]
fn bindings() -> Result<String, String> {
    Ok(committed())
}

/// Generated where the crate can be used at all; elsewhere its own `compile_error!` is all that should be read.
#[cfg(feature = "bindgen")]
fn bindings() -> Result<String, String> {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return Ok(committed());
    }
    generate::write_copies()?;
    generate::bindings(&[])
}

#[cfg(feature = "bindgen")]
mod generate {
    use bindgen::callbacks::{ItemInfo, ParseCallbacks};
    use std::panic;
    use std::path::Path;

    /// Takes the header's big-endian arrangement whatever the machine is; `<asm/byteorder.h>` then leaves `__BYTE_ORDER` alone.
    const BIG_ENDIAN: [&str; 2] = ["-D__BYTE_ORDER=4321", "-D__BIG_ENDIAN=4321"];
    const LITTLE_ENDIAN: [&str; 2] = ["-D__BYTE_ORDER=1234", "-D__LITTLE_ENDIAN=1234"];

    /// For developers: both committed copies, from this machine's header.
    pub(super) fn write_copies() -> Result<(), String> {
        println!("cargo::rerun-if-env-changed=KIOCB_BINDINGS_DIR");
        let Ok(dir) = std::env::var("KIOCB_BINDINGS_DIR") else {
            return Ok(());
        };
        for (file, order) in [
            ("little_endian.rs", LITTLE_ENDIAN),
            ("big_endian.rs", BIG_ENDIAN),
        ] {
            let file = Path::new(&dir).join(file);
            std::fs::write(&file, bindings(&order)?)
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(())
    }

    /// The bindings as text. bindgen panics where it finds no libclang: that is an ordinary error here, and prints nothing.
    pub(super) fn bindings(clang_args: &[&str]) -> Result<String, String> {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let result = panic::catch_unwind(|| builder().clang_args(clang_args).generate());
        panic::set_hook(hook);
        match result {
            Ok(Ok(bindings)) => Ok(bindings.to_string()),
            Ok(Err(error)) => Err(gist(&error.to_string())),
            Err(panic) => Err(gist(
                panic
                    .downcast_ref::<String>()
                    .map_or("bindgen panicked", |text| text),
            )),
        }
    }

    fn builder() -> bindgen::Builder {
        bindgen::builder()
            .header("wrapper.h")
            .allowlist_type("iocb|io_event|aio_context_t")
            .allowlist_var("IOCB_CMD_.*|IOCB_FLAG_.*|RWF_.*")
            // A mask of what the header's kernel knew; of no use to a program that may run on another.
            .blocklist_item("RWF_SUPPORTED")
            // C's integer types have Rust names (`item_name` below), so they need no definition.
            .blocklist_type("__[us](8|16|32|64)|__kernel_rwf_t|__kernel_ulong_t")
            .parse_callbacks(Box::new(RustNames))
            .derive_default(true)
            .use_core()
            .ctypes_prefix("::core::ffi")
            // The header's licence is its own; what is to be said about each item stands in abi.rs.
            .generate_comments(false)
            // The same text from every compiler that can build this crate.
            .rust_target(bindgen::RustTarget::stable(85, 0).unwrap_or_default())
            .disable_header_comment()
            .raw_line("// Generated by bindgen from wrapper.h; to change it see CONTRIBUTING.md, \"Bindings\".")
    }

    /// Field types as a Rust reader expects them: `u64`, not `__u64`. bindgen's layout checks, which carry clang's view of every size
    /// and offset, make sure that nothing is lost by it.
    #[derive(Debug)]
    struct RustNames;

    impl ParseCallbacks for RustNames {
        fn item_name(&self, item: ItemInfo<'_>) -> Option<String> {
            let name = match item.name {
                "__kernel_rwf_t" => "i32",
                "__kernel_ulong_t" => "u64",
                "__u64" => "u64",
                "__s64" => "i64",
                "__u32" => "u32",
                "__u16" => "u16",
                "__s16" => "i16",
                _ => return None,
            };
            Some(name.to_owned())
        }
    }

    /// One short line: bindgen's and libclang's messages go on to list whatever was looked at.
    fn gist(text: &str) -> String {
        let line = text.lines().next().unwrap_or_default();
        let gist = line.split(": \"").next().unwrap_or_default();
        gist.trim_end_matches('.').to_owned()
    }
}
