//! Runs bindgen in a child process: the build script again, with arguments, which cargo never passes.
//!
//! libclang is loaded when it is needed, and can end the process that loads it: a statically linked build
//! script crashes in `dlopen`, and one built with `panic = "abort"` aborts where there is no libclang.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, Command, Output};
use std::{env, fs, panic};

/// Chooses the header's arrangement of `struct iocb`, whatever the machine's own byte order.
const LITTLE_ENDIAN: &[&str] = &["-D__BYTE_ORDER=1234", "-D__LITTLE_ENDIAN=1234"];
const BIG_ENDIAN: &[&str] = &["-D__BYTE_ORDER=4321", "-D__BIG_ENDIAN=4321"];

/// For developers: both committed copies, from this machine's header.
pub(crate) fn write_copies() -> Result<(), String> {
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

/// The bindings as text, or one line that says why there are none.
pub(crate) fn bindings(clang_args: &[&str]) -> Result<String, String> {
    let file = super::out_dir().join("generated.rs");
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .arg(&file)
        .args(clang_args)
        .output()
        .map_err(|error| format!("a child process can't be started: {error}"))?;
    // The child's instructions to cargo: which headers and variables were read.
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        return Err(reason(&output));
    }
    fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))
}

/// Why the child failed: what it said in its last line, or the signal that ended it.
fn reason(output: &Output) -> String {
    if let Some(signal) = output.status.signal() {
        return format!("bindgen or libclang crashed with signal {signal}");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().last().unwrap_or("bindgen failed");
    // cargo ends a warning at the end of a line, and a long one is not read.
    line.chars().take(200).collect()
}

/// Does the child's work and ends the process, if this process is the child.
pub(crate) fn if_child() {
    let mut args = env::args();
    let Some(file) = args.nth(1) else { return };
    // bindgen panics where it finds no libclang, or too old a one. The hook is called before a process that
    // was built with `panic = "abort"` aborts.
    panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<String>();
        give_up(text.map_or("bindgen panicked", String::as_str))
    }));
    match builder().clang_args(args).generate() {
        Ok(bindings) => match fs::write(&file, bindings.to_string()) {
            Ok(()) => process::exit(0),
            Err(error) => give_up(&format!("{file}: {error}")),
        },
        Err(error) => give_up(&error.to_string()),
    }
}

fn give_up(why: &str) -> ! {
    eprintln!("{}", gist(why));
    process::exit(1)
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
        .raw_line("// Made by bindgen from wrapper.h. How to change it: CONTRIBUTING.md, Bindings.")
        // Runs again when one of the headers changes, or a variable that libclang is found by.
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
}

/// One short line: bindgen's and libclang's messages go on to list whatever was looked at.
fn gist(text: &str) -> &str {
    let line = text.lines().find(|line| !line.is_empty());
    let gist = line.and_then(|line| line.split(": \"").next());
    gist.unwrap_or("bindgen failed").trim_end_matches('.')
}
