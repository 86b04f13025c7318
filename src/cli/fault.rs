//! The last resort: a defect of the program itself ends in a short message instead of a backtrace.
//!
//! The hook only remembers. Drivers that panic while they are probed are caught by the library (`device`), so nothing may be
//! printed before a panic has reached `main`.

use std::panic::{PanicHookInfo, set_hook};

use super::console;
use crate::error::{last_panic, note_panic};

/// Replaces the standard hook.
pub(super) fn install() {
    set_hook(Box::new(|info| {
        let fault = describe(info);
        tracing::debug!("panic: {fault}");
        note_panic(fault);
    }));
}

/// Says what happened and asks for a report.
pub(super) fn report() {
    let fault = last_panic();
    console::error(&format!(
        "afterimage {} failed where it should not: {}\nhint: this is a defect; please report the command and this message where you got the program",
        env!("CARGO_PKG_VERSION"),
        fault.as_deref().unwrap_or("no cause was given"),
    ));
}

/// The panic's message on one line, and its place.
fn describe(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("no message");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match info.location() {
        Some(place) => format!("{message} ({}:{})", place.file(), place.line()),
        None => message,
    }
}
