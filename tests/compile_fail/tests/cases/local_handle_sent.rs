//! Callbacks of a `LocalAio` run where it is, so it stays on its thread.

use kiocb::Aio;

fn main() {
    let aio = Aio::builder().build_local().unwrap();
    std::thread::spawn(move || aio.run_once(None));
}
