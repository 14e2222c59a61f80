//! Numbers in bytes, little endian.

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("as many as asked for")
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes(array(bytes, at)).into()
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// # Panics
/// If the number needs more than 16 bits.
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, number: usize) {
    let number = u16::try_from(number).expect("a place or a length within a page");
    bytes[at..at + 2].copy_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_u64(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

/// A number that counts what is in memory.
pub(crate) fn index(number: u64) -> usize {
    usize::try_from(number).expect("less than memory")
}
