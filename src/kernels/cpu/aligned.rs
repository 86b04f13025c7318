//! Working memory that begins with a line of the cache, which no vector crosses then.

use std::ops::{Deref, DerefMut};

/// Bytes of a line.
const LINE: usize = 64;

/// As a vector, but what is in it after [`resize`](Self::resize) means nothing.
#[derive(Debug, Default)]
pub(super) struct Aligned<T> {
    values: Vec<T>,
    start: usize,
    count: usize,
}

impl<T: Copy> Aligned<T> {
    /// Room for `count` values, of which the new ones are `value`.
    pub(super) fn resize(&mut self, count: usize, value: T) {
        let line = LINE / size_of::<T>();
        if self.values.len() < count + line {
            self.values.resize(count + line, value);
            self.start = self.values.as_ptr().align_offset(LINE).min(line);
        }
        self.count = count;
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..][..self.count]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..][..self.count]
    }
}

/// A value that begins with a line of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lined<T>(pub(super) T);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_line() {
        let mut values = Aligned::default();
        for count in [3, 1000, 7, 100_000] {
            values.resize(count, 0.5f32);
            assert_eq!(values.len(), count);
            assert!(values.as_ptr().addr().is_multiple_of(LINE));
        }
        let value = Lined([0.0f32; 3]);
        assert!((&raw const value).addr().is_multiple_of(LINE));
    }
}
