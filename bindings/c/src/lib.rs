//! Afterimage as a C library.
//!
//! What C calls is in `include/afterimage.h`, which is made of these files. Three rules hold for all of it:
//!
//! - Handles are numbers that only look like pointers: nothing is ever read through them. One that was freed, or is of another kind, or was
//!   never given out is told by the table in `handles`, and answered with an error.
//! - Every entry goes through `fault::guard`: a panic ends there, as `AFTERIMAGE_CODE_INTERNAL`.
//! - A struct that may grow begins with its size, and is read by `sized` as far as its program knows it.
#![allow(
    non_camel_case_types,
    reason = "types are called in the header as they are called here"
)]

mod cancel;
mod catalogue;
mod fault;
mod handles;
mod memory;
mod model;
mod request;
mod result;
mod run;
mod sized;
