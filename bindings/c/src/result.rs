//! What runs have made.

use std::{ffi::c_char, mem::offset_of, path::Path, ptr::null_mut, sync::Arc, time::Duration};

use afterimage::{
    engine::Finished,
    image_io::{Picture, save_item},
    pipeline::{Output, Report},
};
use serde_json::json;

use crate::{
    fault::{Fault, afterimage_code, afterimage_error, guard},
    handles::{Handle, Held, find, forget},
    memory::{self, Given, give_text, needed, put},
    sized::{self, Growing},
};

/// Pictures or films that a run has made. Owned by the program, which frees it with `afterimage_result_free`. It does not change, so any thread may
/// read it.
pub struct afterimage_result {
    _opaque: [u8; 0],
}

impl Handle for afterimage_result {
    type Kept = Arc<Pictures>;
    const NAME: &'static str = "result";

    fn of(held: &Held) -> Option<Self::Kept> {
        match held {
            Held::Result(pictures) => Some(Arc::clone(pictures)),
            _ => None,
        }
    }
}

/// How much there is of what. Set `size` to the size of this struct before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct afterimage_shape {
    /// Bytes of this struct.
    pub size: usize,
    /// Pictures or films.
    pub items: u64,
    /// Frames of each; 1 of pictures.
    pub frames: u64,
    /// Pixels of a row.
    pub width: u64,
    /// Rows.
    pub height: u64,
}

// SAFETY: `repr(C)`, a size first, then numbers.
unsafe impl Growing for afterimage_shape {
    const NAME: &'static str = "afterimage_shape";
    const STARTS: &'static [usize] = &[
        offset_of!(Self, items),
        offset_of!(Self, frames),
        offset_of!(Self, width),
        offset_of!(Self, height),
    ];
}

/// What was made, read back from its device.
pub(crate) struct Pictures {
    /// By item, then frame.
    items: Vec<Vec<Picture>>,
    /// `[items, frames, 3, height, width]`, 0 to 1.
    values: Vec<f32>,
    recipe: String,
    report: String,
    texts: Vec<(String, String)>,
    fps: usize,
}

impl Pictures {
    pub(crate) fn new(finished: &Finished) -> Result<Self, Fault> {
        let items = match finished.generated.output()? {
            Output::Pictures(pictures) => pictures.into_iter().map(|one| vec![one]).collect(),
            Output::Frames(films) => films,
        };
        Ok(Self {
            items,
            values: finished.generated.values()?,
            recipe: finished.recipe.to_json(),
            report: report(finished),
            texts: finished.texts.clone(),
            fps: finished.fps,
        })
    }

    fn shape(&self) -> afterimage_shape {
        let first = self.items.first().and_then(|frames| frames.first());
        let side = |side: fn(&Picture) -> usize| first.map_or(0, side) as u64;
        afterimage_shape {
            size: size_of::<afterimage_shape>(),
            items: self.items.len() as u64,
            frames: self.items.first().map_or(0, Vec::len) as u64,
            width: side(Picture::width),
            height: side(Picture::height),
        }
    }

    /// A frame, and its place among all of them.
    fn frame(&self, item: u64, frame: u64) -> Result<(usize, &Picture), Fault> {
        let place = usize::try_from(item).ok().zip(usize::try_from(frame).ok());
        let found = place.and_then(|(item, frame)| {
            let frames = self.items.get(item)?;
            Some((item * frames.len() + frame, frames.get(frame)?))
        });
        found.ok_or_else(|| self.missing(item, frame))
    }

    /// The frames of an item.
    fn frames(&self, item: u64) -> Result<&[Picture], Fault> {
        let place = usize::try_from(item).ok();
        let found = place.and_then(|item| self.items.get(item));
        found
            .map(Vec::as_slice)
            .ok_or_else(|| self.missing(item, 0))
    }

    fn missing(&self, item: u64, frame: u64) -> Fault {
        let afterimage_shape { items, frames, .. } = self.shape();
        Fault::Argument {
            message: format!(
                "there is no frame {frame} of item {item} among {items} of {frames} frames"
            ),
            hint: "both count from 0",
        }
    }

    /// Red, green and blue of every pixel of a frame, row after row.
    fn floats(&self, item: u64, frame: u64) -> Result<Vec<f32>, Fault> {
        let (number, picture) = self.frame(item, frame)?;
        let area = picture.width() * picture.height();
        let planes = &self.values[number * 3 * area..][..3 * area];
        let pixel = |pixel: usize| [0, 1, 2].map(|plane| planes[plane * area + pixel]);
        Ok((0..area).flat_map(pixel).collect())
    }
}

/// Red, green, blue and 255 of every pixel, row after row.
pub(crate) fn rgba(picture: &Picture) -> Vec<u8> {
    let pixels = picture.pixels().chunks_exact(3);
    pixels
        .flat_map(|rgb| [rgb[0], rgb[1], rgb[2], 255])
        .collect()
}

/// Seconds and counts of a run, as JSON.
fn report(finished: &Finished) -> String {
    let reports = &finished.reports;
    let seconds = |time: fn(&Report) -> Duration| {
        let times = reports.iter().map(time);
        times.sum::<Duration>().as_secs_f64()
    };
    let account = &finished.account;
    json!({
        "seconds": {
            "loading": finished.loading.as_secs_f64(),
            "text": seconds(|report| report.text),
            "denoising": seconds(|report| report.denoising),
            "decoding": seconds(|report| report.decoding),
        },
        "evaluations": account.refreshes + account.reuses,
        "full_evaluations": account.refreshes,
        "cells_run": reports.iter().flat_map(|report| &report.account.cells).sum::<usize>(),
    })
    .to_string()
}

/// Writes how much there is of what to `*shape`. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_result_shape(
    result: *const afterimage_result,
    shape: *mut afterimage_shape,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || sized::write(shape, &find(result)?.shape()))
}

/// Copies a frame into the program's buffer: red, green, blue and 255 of every pixel, row after row from above, `width * height * 4` bytes.
/// `length` is in bytes; a buffer that is larger keeps what is behind. A picture is frame 0. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_result_rgba8(
    result: *const afterimage_result,
    item: u64,
    frame: u64,
    buffer: *mut u8,
    length: usize,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        let pictures = find(result)?;
        copy(&rgba(pictures.frame(item, frame)?.1), buffer, length)
    })
}

/// The same as numbers of 0 to 1 that are not rounded: red, green and blue of every pixel, `width * height * 3` numbers. `length` is in numbers.
/// Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_result_f32(
    result: *const afterimage_result,
    item: u64,
    frame: u64,
    buffer: *mut f32,
    length: usize,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        copy(&find(result)?.floats(item, frame)?, buffer, length)
    })
}

/// `afterimage_result_rgba8` into memory of the library: `*pixels` is the program's, which frees it with `afterimage_free`. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_result_take_rgba8(
    result: *const afterimage_result,
    item: u64,
    frame: u64,
    pixels: *mut *mut u8,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        let pictures = find(result)?;
        put(pixels, "place for the pixels", || {
            let bytes = rgba(pictures.frame(item, frame)?.1);
            Ok(memory::give(Given::Bytes(bytes.into())).cast())
        })
    })
}

/// `afterimage_result_f32` into memory of the library: `*pixels` is the program's, which frees it with `afterimage_free`. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_result_take_f32(
    result: *const afterimage_result,
    item: u64,
    frame: u64,
    pixels: *mut *mut f32,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        let pictures = find(result)?;
        put(pixels, "place for the pixels", || {
            let floats = pictures.floats(item, frame)?;
            Ok(memory::give(Given::Floats(floats.into())).cast())
        })
    })
}

/// Writes the recipe that makes the same again to `*json`, which the program frees with `afterimage_free`: with everything that was picked, the seed
/// too, and with hashes. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_result_recipe(
    result: *const afterimage_result,
    json: *mut *mut c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || give_text(json, &find(result)?.recipe))
}

/// Writes an item to a file, whole or not at all, as the program does and with the same texts in it, its recipe among them: a picture as PNG, JPEG or
/// WebP, a film as APNG, GIF, MP4 (in builds that have it), Y4M or a folder of frames, as the name says. `path` is in UTF-8. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_result_save(
    result: *const afterimage_result,
    item: u64,
    path: *const c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        let pictures = find(result)?;
        let path = Path::new(needed(path, "path")?);
        let frames = pictures.frames(item)?;
        Ok(save_item(frames, pictures.fps, path, &pictures.texts)?)
    })
}

/// Writes where the time went and what was computed to `*json`, which the program frees with `afterimage_free`: an object with `seconds` (of
/// `loading`, `text`, `denoising`, `decoding`), `evaluations`, `full_evaluations` and `cells_run`. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_result_report(
    result: *const afterimage_result,
    json: *mut *mut c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || give_text(json, &find(result)?.report))
}

/// Frees a result. Null is nothing to free; what was freed already is answered with `AFTERIMAGE_CODE_HANDLE`. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_result_free(result: *mut afterimage_result) -> afterimage_code {
    guard(null_mut(), || forget(result))
}

/// Copies `values` to a buffer of `length`.
fn copy<T: Copy>(values: &[T], buffer: *mut T, length: usize) -> Result<(), Fault> {
    if buffer.is_null() {
        return Err(Fault::Null { what: "buffer" });
    }
    let needed = values.len();
    if length < needed {
        let given = length;
        return Err(Fault::Buffer { given, needed });
    }
    // SAFETY: by contract, the buffer takes `length` values, which are enough.
    unsafe { values.as_ptr().copy_to_nonoverlapping(buffer, needed) };
    Ok(())
}
