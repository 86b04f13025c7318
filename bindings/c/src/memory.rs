//! Texts and pixels that cross the border.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, c_char, c_void},
    sync::{LazyLock, Mutex, PoisonError},
};

use crate::fault::{Fault, afterimage_code, c_string, guard};

/// Memory that a program holds.
pub(crate) enum Given {
    Text(CString),
    Bytes(Box<[u8]>),
    Floats(Box<[f32]>),
}

impl Given {
    fn address(&self) -> *mut c_void {
        match self {
            Self::Text(text) => text.as_ptr().cast_mut().cast(),
            Self::Bytes(bytes) => bytes.as_ptr().cast_mut().cast(),
            Self::Floats(floats) => floats.as_ptr().cast_mut().cast(),
        }
    }
}

static GIVEN: LazyLock<Mutex<HashMap<usize, Given>>> = LazyLock::new(Mutex::default);

/// Hands `memory` out, until it is freed.
pub(crate) fn give(memory: Given) -> *mut c_void {
    let address = memory.address();
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    given.insert(address.addr(), memory);
    address
}

/// Hands `text` out in `place`, which must be there.
pub(crate) fn give_text(place: *mut *mut c_char, text: &str) -> Result<(), Fault> {
    put(place, "place for the text", || {
        Ok(give(Given::Text(c_string(text))).cast())
    })
}

/// Puts what `work` makes where `place` points; nothing is made if there is no place.
pub(crate) fn put<T>(
    place: *mut T,
    what: &'static str,
    work: impl FnOnce() -> Result<T, Fault>,
) -> Result<(), Fault> {
    if place.is_null() {
        return Err(Fault::Null { what });
    }
    let made = work()?;
    // SAFETY: by contract, a place that is not null takes a value of its type.
    unsafe { place.write(made) };
    Ok(())
}

/// The text that a program hands over; `None` for null.
pub(crate) fn text<'a>(given: *const c_char, what: &str) -> Result<Option<&'a str>, Fault> {
    if given.is_null() {
        return Ok(None);
    }
    // SAFETY: by contract, a text is null or ends in a zero, and lives as long as the call.
    let text = unsafe { CStr::from_ptr(given) };
    let text = text.to_str().map_err(|_| Fault::Argument {
        message: format!("the {what} is no UTF-8"),
        hint: "all texts are UTF-8, names of files too",
    })?;
    Ok(Some(text))
}

/// [`text`], which must be there.
pub(crate) fn needed<'a>(given: *const c_char, what: &'static str) -> Result<&'a str, Fault> {
    text(given, what)?.ok_or(Fault::Null { what })
}

/// Frees a text or pixels that this library has handed over. Null is nothing to free; what was freed already, or is not of this library, is left
/// alone and answered with `AFTERIMAGE_CODE_HANDLE`. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_free(memory: *mut c_void) -> afterimage_code {
    guard(std::ptr::null_mut(), || {
        if memory.is_null() {
            return Ok(());
        }
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        let freed = given.remove(&memory.addr());
        freed.map(drop).ok_or(Fault::Handle { what: "memory" })
    })
}
