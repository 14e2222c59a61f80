//! The pieces of a vectored read are looked at before the scope is over.
use kiocb::Aio;
use std::io::IoSliceMut;

fn main() -> std::io::Result<()> {
    let file = std::fs::File::open("/dev/zero")?;
    let (mut head, mut body) = ([1; 16], [1; 512]);
    let mut pieces = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut body)];
    Aio::global()?.scope(|s| {
        let read = s.read_vectored_at(&file, &mut pieces, 0);
        println!("{}", pieces[0][0]);
        read.wait().map(drop)
    })
}
