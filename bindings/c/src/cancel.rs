//! Stopping runs.

use std::ptr::null_mut;

use afterimage::engine::Cancel;

use crate::{
    fault::{afterimage_code, afterimage_error, guard},
    handles::{Handle, Held, find, forget, give},
    memory::put,
};

/// Stops the runs that were given it, from any thread; one token may go with many runs, and does not go back. Owned by the program, which frees
/// it with `afterimage_cancel_free`.
pub struct afterimage_cancel {
    _opaque: [u8; 0],
}

impl Handle for afterimage_cancel {
    type Kept = Cancel;
    const NAME: &'static str = "cancel token";

    fn of(held: &Held) -> Option<Self::Kept> {
        match held {
            Held::Cancel(cancel) => Some(cancel.clone()),
            _ => None,
        }
    }
}

/// Makes a token. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_cancel_new(
    cancel: *mut *mut afterimage_cancel,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        put(cancel, "place for the cancel token", || {
            Ok(give(Held::Cancel(Cancel::default())))
        })
    })
}

/// Has the runs under way end after the step that they are in, with `AFTERIMAGE_CODE_CANCELLED`, and those that wait at once. What is read or
/// decoded just then is read or decoded to its end. Any thread may call it, a callback too, before, during and after a run.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_cancel_now(cancel: *const afterimage_cancel) -> afterimage_code {
    guard(null_mut(), || {
        find(cancel)?.now();
        Ok(())
    })
}

/// Lets the run under way finish its pictures, and has runs that wait for it or come later end with `AFTERIMAGE_CODE_CANCELLED`. Any thread may
/// call it, a callback too, before, during and after a run.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_cancel_after_this(
    cancel: *const afterimage_cancel,
) -> afterimage_code {
    guard(null_mut(), || {
        find(cancel)?.after_this();
        Ok(())
    })
}

/// Frees a token; runs that were given it go on. Null is nothing to free; what was freed already is answered with `AFTERIMAGE_CODE_HANDLE`. Any
/// thread may call it, also during a run.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_cancel_free(cancel: *mut afterimage_cancel) -> afterimage_code {
    guard(null_mut(), || forget(cancel))
}
