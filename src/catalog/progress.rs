//! Watching downloads.

/// Told about downloads.
pub trait FetchProgress {
    /// A file begins; `size` in bytes.
    fn begin(&mut self, file: &str, size: u64);
    /// More bytes of it are here: new ones, or those of an earlier attempt.
    fn advance(&mut self, bytes: u64);
    /// The file is complete.
    fn end(&mut self);
}

/// Watches nothing.
impl FetchProgress for () {
    fn begin(&mut self, _file: &str, _size: u64) {}
    fn advance(&mut self, _bytes: u64) {}
    fn end(&mut self) {}
}
