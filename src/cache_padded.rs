//! A value that shares no cache line with others.

/// A value on a cache line of its own: two threads that write different fields must not share one (128 bytes:
/// x86-64 fetches lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);

impl<T> std::ops::Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
