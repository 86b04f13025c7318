//! Structs that may grow: their first field is their size in bytes, as the program was compiled with.

use std::mem::{size_of, zeroed};

use crate::fault::Fault;

/// Bytes beyond which no struct will grow.
const LARGEST: usize = 4096;

/// A struct of the header whose first field is `size: usize`, and of which zeros are a value that says nothing.
///
/// # Safety
///
/// It is `repr(C)`, begins with a `usize`, and all its bytes may be zero.
pub(crate) unsafe trait Growing: Copy {
    /// What messages call it.
    const NAME: &'static str;
    /// Where its fields begin, that of the size apart: where the structs of older programs may end.
    const STARTS: &'static [usize];
}

/// Reads what `given` points to, as far as both sides know it: what an older program does not know is zero, and what a newer one knows besides
/// must be. Null is all zeros.
pub(crate) fn read<T: Growing>(given: *const T) -> Result<T, Fault> {
    // SAFETY: by the trait, zeros are a value.
    let mut value: T = unsafe { zeroed() };
    if given.is_null() {
        return Ok(value);
    }
    let size = size(given)?;
    let bytes = given.cast::<u8>();
    let known = size.min(size_of::<T>());
    for index in known..size {
        // SAFETY: by contract, `given` points to as many bytes as its first field says.
        let more = unsafe { bytes.add(index).read() };
        if more != 0 {
            return Err(Fault::Argument {
                message: format!("`{}` says something that is not known here", T::NAME),
                hint: "the program was compiled for a newer library: use that one",
            });
        }
    }
    let place = (&raw mut value).cast::<u8>();
    // SAFETY: as above; `value` has at least as many bytes, and takes any of the header's values.
    unsafe { bytes.copy_to_nonoverlapping(place, known) };
    Ok(value)
}

/// Writes `value` to where `place` points, as far as its program knows it; the size there stays.
pub(crate) fn write<T: Growing>(place: *mut T, value: &T) -> Result<(), Fault> {
    if place.is_null() {
        return Err(Fault::Null { what: T::NAME });
    }
    let known = size(place.cast_const())?.min(size_of::<T>());
    let head = size_of::<usize>();
    let bytes = std::ptr::from_ref(value).cast::<u8>();
    // SAFETY: by contract, `place` points to as many bytes as its first field says; `value` has at least `known`, of which the head stays.
    unsafe {
        let (from, to) = (bytes.add(head), place.cast::<u8>().add(head));
        from.copy_to_nonoverlapping(to, known - head);
    }
    Ok(())
}

/// The size that the struct says it has.
fn size<T: Growing>(given: *const T) -> Result<usize, Fault> {
    // SAFETY: by contract, a pointer that is not null points to a struct, which begins with its size.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    // One that ends within a field has half a pointer there.
    let is_newer = (size_of::<T>()..=LARGEST).contains(&size);
    if is_newer || T::STARTS.contains(&size) {
        return Ok(size);
    }
    Err(Fault::Argument {
        message: format!("`{}` says that it has {size} bytes", T::NAME),
        hint: "set its `size` to sizeof of it before anything else",
    })
}
