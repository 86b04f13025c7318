//! What went wrong, as C is told of it.

use std::{
    ffi::{CString, c_char},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::null,
    sync::Arc,
};

use afterimage::{Error, ErrorKind};

use crate::handles::{Handle, Held, find, forget, give};

/// How a call ended. New numbers may come with later versions.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum afterimage_code {
    /// As it should.
    Ok = 0,
    /// A model's configuration says something unreadable or unsupported.
    Config = 1,
    /// Weights are missing, malformed or do not fit the model.
    Weights = 2,
    /// What was asked for makes no sense, or the recipe cannot be read or followed.
    Request = 3,
    /// A cache rule cannot be planned for the run.
    Plan = 4,
    /// The device is absent, lost or out of memory.
    Device = 5,
    /// A file could not be read or written.
    File = 6,
    /// The run was cancelled.
    Cancelled = 7,
    /// An argument is null, no UTF-8, of a wrong size or out of range, or the call has no place in a callback.
    Argument = 8,
    /// A handle was freed, was never given out, or is of another kind.
    Handle = 9,
    /// The buffer is too small.
    Buffer = 10,
    /// The library failed where it should not; this is a defect of the library.
    Internal = 11,
}

/// What went wrong: a code, a message and, where something can be done, a hint. Owned by the program, which frees it with
/// `afterimage_error_free`. It does not change, so any thread may read it.
pub struct afterimage_error {
    _opaque: [u8; 0],
}

impl Handle for afterimage_error {
    type Kept = Arc<Report>;
    const NAME: &'static str = "error";

    fn of(held: &Held) -> Option<Self::Kept> {
        match held {
            Held::Error(report) => Some(Arc::clone(report)),
            _ => None,
        }
    }
}

/// An error in C's words.
pub(crate) struct Report {
    code: afterimage_code,
    message: CString,
    hint: Option<CString>,
}

/// Why a call did not do what it was called for.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The engine refused or failed.
    Engine(Error),
    /// An argument that must be there is not.
    Null { what: &'static str },
    /// Nothing has this handle.
    Handle { what: &'static str },
    /// An argument that cannot be used.
    Argument { message: String, hint: &'static str },
    /// A buffer that does not take what goes into it.
    Buffer { given: usize, needed: usize },
    /// A panic.
    Panic(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl Fault {
    pub(crate) fn code(&self) -> afterimage_code {
        match self {
            Self::Engine(error) => match error.kind() {
                ErrorKind::Config => afterimage_code::Config,
                ErrorKind::Weights => afterimage_code::Weights,
                ErrorKind::Request => afterimage_code::Request,
                ErrorKind::Plan => afterimage_code::Plan,
                ErrorKind::Device => afterimage_code::Device,
                ErrorKind::File => afterimage_code::File,
                ErrorKind::Cancelled => afterimage_code::Cancelled,
                _ => afterimage_code::Internal,
            },
            Self::Null { .. } | Self::Argument { .. } => afterimage_code::Argument,
            Self::Handle { .. } => afterimage_code::Handle,
            Self::Buffer { .. } => afterimage_code::Buffer,
            Self::Panic(_) => afterimage_code::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Engine(error) => return error.hint(),
            Self::Null { .. } => "it may not be null here",
            Self::Handle { .. } => {
                "it was freed already, is of another kind, or was never given out"
            }
            Self::Argument { hint, .. } => hint,
            Self::Buffer { .. } => "`afterimage_result_shape` says how large it must be",
            Self::Panic(_) => "this is a defect of the library; please report it",
        };
        Some(hint.to_owned())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => formatter.write_str(&error.message()),
            Self::Null { what } => write!(formatter, "the {what} is null"),
            Self::Handle { what } => write!(formatter, "no {what} has this handle"),
            Self::Argument { message, .. } => formatter.write_str(message),
            Self::Buffer { given, needed } => write!(
                formatter,
                "the buffer takes {given} values, and {needed} go into it"
            ),
            Self::Panic(cause) => write!(formatter, "the library failed: {cause}"),
        }
    }
}

/// A C string; what follows a zero is cut off, which no message has.
pub(crate) fn c_string(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}

/// Does the work of an entry. What goes wrong is said in `error`, which the caller may leave out; a panic goes no further.
pub(crate) fn guard(
    error: *mut *mut afterimage_error,
    work: impl FnOnce() -> Result<(), Fault>,
) -> afterimage_code {
    let done = catch_unwind(AssertUnwindSafe(work));
    let done = done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Fault::Panic(
            text.unwrap_or("no cause was given").to_owned(),
        ))
    });
    let (code, handle) = match &done {
        Ok(()) => (afterimage_code::Ok, std::ptr::null_mut()),
        Err(_) if error.is_null() => (code(&done), std::ptr::null_mut()),
        Err(fault) => (fault.code(), give(Held::Error(Arc::new(report(fault))))),
    };
    if !error.is_null() {
        // SAFETY: by contract, `error` is null or points to a place for a handle.
        unsafe { error.write(handle) };
    }
    code
}

fn code(done: &Result<(), Fault>) -> afterimage_code {
    match done {
        Ok(()) => afterimage_code::Ok,
        Err(fault) => fault.code(),
    }
}

fn report(fault: &Fault) -> Report {
    Report {
        code: fault.code(),
        message: c_string(&fault.to_string()),
        hint: fault.hint().map(|hint| c_string(&hint)),
    }
}

/// What the error is of; `AFTERIMAGE_CODE_HANDLE` if this is no error. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_error_code(error: *const afterimage_error) -> afterimage_code {
    find(error).map_or_else(|fault| fault.code(), |report| report.code)
}

/// What went wrong, in English and UTF-8; null if this is no error. The text is the error's and lives as long as it. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_error_message(error: *const afterimage_error) -> *const c_char {
    find(error).map_or(null(), |report| report.message.as_ptr())
}

/// What to do about it, in English and UTF-8; null if nothing is known, or this is no error. The text is the error's and lives as long as it.
/// Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_error_hint(error: *const afterimage_error) -> *const c_char {
    let report = find(error).ok();
    let hint = report.as_ref().and_then(|report| report.hint.as_ref());
    hint.map_or(null(), |hint| hint.as_ptr())
}

/// Frees an error and its texts. Null is nothing to free; what was freed already is answered with `AFTERIMAGE_CODE_HANDLE`. Any thread may
/// call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_error_free(error: *mut afterimage_error) -> afterimage_code {
    code(&forget(error))
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::CStr,
        panic::panic_any,
        ptr::{dangling_mut, null_mut},
    };

    use super::*;

    /// What a program is told of an entry that does `work`.
    fn told(work: impl FnOnce() -> Result<(), Fault>) -> (afterimage_code, String) {
        let mut error = null_mut();
        let code = guard(&raw mut error, work);
        assert_eq!(afterimage_error_code(error), code);
        // SAFETY: an error's message is a text that lives as long as it.
        let message = unsafe { CStr::from_ptr(afterimage_error_message(error)) };
        let message = message.to_string_lossy().into_owned();
        assert!(!afterimage_error_hint(error).is_null());
        assert_eq!(afterimage_error_free(error), afterimage_code::Ok);
        (code, message)
    }

    #[test]
    fn a_panic_ends_at_the_border() {
        let internal = |cause: &str| {
            let message = format!("the library failed: {cause}");
            (afterimage_code::Internal, message)
        };
        assert_eq!(told(|| panic!("a plain one")), internal("a plain one"));
        let number = 7;
        assert_eq!(told(|| panic!("one of {number}")), internal("one of 7"));
        assert_eq!(told(|| panic_any(number)), internal("no cause was given"));
        let unheard = guard(null_mut(), || panic!("nobody asks why"));
        assert_eq!(unheard, afterimage_code::Internal);
    }

    #[test]
    fn success_leaves_no_error() {
        let mut error = dangling_mut::<afterimage_error>();
        assert_eq!(guard(&raw mut error, || Ok(())), afterimage_code::Ok);
        assert!(error.is_null());
    }
}
