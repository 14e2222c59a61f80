//! Puts the kernel's AIO types into `OUT_DIR/bindings.rs`: generated from `wrapper.h` with the
//! feature `bindgen`, else, and wherever generating fails, copied from the committed files in
//! `src/sys/bindings`. One warning says why it failed; the build goes on.
//!
//! There is a committed file for each byte order, because two fields of `struct iocb` change places.
//! A developer rewrites both with `.ci/bindings --write`, which sets `KIOCB_BINDINGS_DIR` to the
//! folder they shall be written to.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where the committed copies are, below the crate's root.
const COMMITTED: &str = "src/sys/bindings";

/// The `compile_error!` of `abi.rs`, said before the errors that would follow from it.
const UNSUPPORTED: &str = "kiocb needs 64-bit Linux: kernel AIO exists nowhere else in this form";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-changed={COMMITTED}");
    println!("cargo::rerun-if-env-changed=LIBCLANG_PATH");
    if !supported() {
        println!("cargo::error={UNSUPPORTED}");
        return;
    }
    let text = bindings().unwrap_or_else(|reason| {
        warn(&reason);
        committed()
    });
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("bindings.rs"), text).expect("OUT_DIR can be written");
}

fn supported() -> bool {
    let target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    target("OS") == "linux" && target("POINTER_WIDTH") == "64"
}

fn warn(reason: &str) {
    println!(
        "cargo::warning=kiocb uses its committed bindings, generating them failed: {reason}. \
         To generate them install libclang-dev and linux-libc-dev (Debian's names); to build \
         without, turn the feature `bindgen` off."
    );
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

#[cfg(feature = "bindgen")]
fn bindings() -> Result<String, String> {
    generate::write_copies()?;
    generate::bindings(&[])
}

#[cfg(feature = "bindgen")]
mod generate {
    use std::path::Path;
    use std::{env, fs, panic};

    /// Chooses the header's arrangement of `struct iocb`, whatever the machine's own byte order.
    const LITTLE_ENDIAN: &[&str] = &["-D__BYTE_ORDER=1234", "-D__LITTLE_ENDIAN=1234"];
    const BIG_ENDIAN: &[&str] = &["-D__BYTE_ORDER=4321", "-D__BIG_ENDIAN=4321"];

    /// For developers: both committed copies, from this machine's header.
    pub(super) fn write_copies() -> Result<(), String> {
        println!("cargo::rerun-if-env-changed=KIOCB_BINDINGS_DIR");
        let Ok(dir) = env::var("KIOCB_BINDINGS_DIR") else {
            return Ok(());
        };
        for (name, order) in [
            ("little_endian.rs", LITTLE_ENDIAN),
            ("big_endian.rs", BIG_ENDIAN),
        ] {
            let file = Path::new(&dir).join(name);
            fs::write(&file, bindings(order)?)
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(())
    }

    /// The bindings as text. bindgen panics where it finds no libclang, or too old a one: that is
    /// an ordinary error here, and prints nothing.
    pub(super) fn bindings(clang_args: &[&str]) -> Result<String, String> {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let result = panic::catch_unwind(|| builder().clang_args(clang_args).generate());
        panic::set_hook(hook);
        match result {
            Ok(Ok(bindings)) => Ok(bindings.to_string()),
            Ok(Err(error)) => Err(gist(&error.to_string())),
            Err(panic) => match panic.downcast_ref::<String>() {
                Some(text) => Err(gist(text)),
                None => Err("bindgen panicked".to_owned()),
            },
        }
    }

    fn builder() -> bindgen::Builder {
        bindgen::builder()
            .header("wrapper.h")
            .allowlist_type("iocb|io_event|aio_context_t")
            .allowlist_var("IOCB_CMD_.*|IOCB_FLAG_.*|RWF_.*")
            // A mask of what the header's kernel knew; of no use to a program that runs on another.
            .blocklist_item("RWF_SUPPORTED")
            .derive_default(true)
            .use_core()
            .ctypes_prefix("::core::ffi")
            // Sizes and offsets are asserted in abi.rs, by hand, and the items documented there.
            .layout_tests(false)
            .generate_comments(false)
            // The same text from every compiler that can build this crate.
            .rust_target(bindgen::RustTarget::stable(85, 0).unwrap_or_default())
            // The same text from every bindgen that makes the same items.
            .disable_header_comment()
            .raw_line(
                "// Made by bindgen from wrapper.h. How to change it: CONTRIBUTING.md, Bindings.",
            )
            // Runs again when one of the headers changes, or a variable that libclang is found by.
            .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
    }

    /// One short line: bindgen's and libclang's messages go on to list whatever was looked at.
    fn gist(text: &str) -> String {
        let line = text.lines().next().unwrap_or_default();
        let gist = line.split(": \"").next().unwrap_or_default();
        gist.trim_end_matches('.').to_owned()
    }
}
