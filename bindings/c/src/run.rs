//! Runs.

use std::{
    cell::Cell,
    ffi::{c_char, c_void},
    mem::offset_of,
    ops::ControlFlow,
    sync::Arc,
};

use afterimage::{
    burn::tensor::Tensor,
    denoise::{Observer, Progress},
    engine::Cancel,
    image_io::Picture,
    pipeline::Recipe,
};

use crate::{
    cancel::afterimage_cancel,
    fault::{Fault, afterimage_code, afterimage_error, c_string, guard},
    handles::{Held, find, give},
    memory::{needed, put},
    model::{afterimage_model, afterimage_warning_fn},
    result::{Pictures, afterimage_result, rgba},
    sized::{self, Growing},
};

/// How far a run is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct afterimage_progress {
    /// Bytes of this struct.
    pub size: usize,
    /// Model calls that are made.
    pub done: u64,
    /// Model calls of the run; of several models in a row, of the one that runs.
    pub total: u64,
    /// 1 if the last call computed everything, 0 if it used again what a call before had computed.
    pub refreshed: u32,
}

/// What a picture seems to become.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct afterimage_preview {
    /// Bytes of this struct.
    pub size: usize,
    /// Which picture or film of the run, from 0; of a film it is the middle frame.
    pub item: u64,
    /// Pixels of a row.
    pub width: u64,
    /// Rows.
    pub height: u64,
    /// Red, green, blue and 255 of every pixel, row after row. They live as long as the call.
    pub pixels: *const u8,
    /// Bytes of them.
    pub length: u64,
}

/// Called after every model call. What is handed over lives as long as the call. 0 goes on, anything else cancels the run. It is called on the
/// thread that called `afterimage_run`, and neither throws nor jumps out.
pub type afterimage_progress_fn =
    Option<extern "C" fn(user_data: *mut c_void, progress: *const afterimage_progress) -> i32>;

/// Shown what a picture seems to become. What is handed over lives as long as the call. It is called on the thread that called
/// `afterimage_run`, and neither throws nor jumps out.
pub type afterimage_preview_fn =
    Option<extern "C" fn(user_data: *mut c_void, preview: *const afterimage_preview)>;

/// What a program hears of one run. Set `size` to the size of this struct and all else to zero before anything else.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct afterimage_callbacks {
    /// Bytes of this struct.
    pub size: usize,
    /// Handed to every callback as it is; it must live until `afterimage_run` returns.
    pub user_data: *mut c_void,
    /// Told after every model call; may be null.
    pub progress: afterimage_progress_fn,
    /// Told what the user should know; may be null.
    pub warning: afterimage_warning_fn,
    /// Shown previews; may be null.
    pub preview: afterimage_preview_fn,
    /// Model calls from one preview to the next; 0 is 5.
    pub preview_every: u32,
    /// Not 0: previews are decoded, each for the time of a decoding. 0: a linear map of the latents makes them, at next to no cost.
    pub preview_decoded: u32,
}

// SAFETY: `repr(C)`, a size first, then a pointer, a number and functions that may be null.
unsafe impl Growing for afterimage_callbacks {
    const NAME: &'static str = "afterimage_callbacks";
    const STARTS: &'static [usize] = &[
        offset_of!(Self, user_data),
        offset_of!(Self, progress),
        offset_of!(Self, warning),
        offset_of!(Self, preview),
        offset_of!(Self, preview_every),
        offset_of!(Self, preview_decoded),
    ];
}

/// Model calls from one preview to the next, where the program is silent.
const PREVIEW_EVERY: u32 = 5;

/// Runs a recipe on a model, and returns when it is done; runs on this model that other threads have begun are done first. The recipe is JSON as
/// pictures keep it and `afterimage generate --replay` reads it; what it does not say of the model is as the model was opened, and what it does not
/// say of the run is the model's default. `callbacks` and `cancel` may be null. `*result` is the program's, and written on success alone. Any
/// thread may call it, but no callback.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_run(
    model: *const afterimage_model,
    recipe: *const c_char,
    callbacks: *const afterimage_callbacks,
    cancel: *const afterimage_cancel,
    result: *mut *mut afterimage_result,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        refuse_in_callbacks()?;
        put(result, "place for the result", || {
            let engine = find(model)?;
            let callbacks = sized::read(callbacks)?;
            let cancel = if cancel.is_null() {
                Cancel::default()
            } else {
                find(cancel)?
            };
            let recipe = Recipe::from_json(needed(recipe, "recipe")?)?;
            let finished = engine.run(&recipe, &cancel, &mut Watch(callbacks))?;
            let pictures = Pictures::new(&finished)?;
            Ok(give(Held::Result(Arc::new(pictures))))
        })
    })
}

thread_local! {
    /// Whether this thread is in a callback.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A callback, until it is dropped.
pub(crate) struct Inside;

impl Inside {
    pub(crate) fn begin() -> Self {
        INSIDE.set(true);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// A run that waits for the run that it is called in would wait for ever.
pub(crate) fn refuse_in_callbacks() -> Result<(), Fault> {
    if INSIDE.get() {
        return Err(Fault::Argument {
            message: "a callback can neither open a model nor run one".into(),
            hint: "have another thread do it, and do not wait for it in the callback",
        });
    }
    Ok(())
}

/// Hands on to a program what an observer sees.
struct Watch(afterimage_callbacks);

impl Observer for Watch {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        let Some(tell) = self.0.progress else {
            return ControlFlow::Continue(());
        };
        let told = afterimage_progress {
            size: size_of::<afterimage_progress>(),
            done: progress.evaluation.index as u64 + 1,
            total: progress.total as u64,
            refreshed: progress.refresh.into(),
        };
        let _inside = Inside::begin();
        match tell(self.0.user_data, &raw const told) {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }

    fn wants_preview(&mut self, progress: &Progress<'_>) -> bool {
        let every = match self.0.preview_every {
            0 => PREVIEW_EVERY as usize,
            every => every as usize,
        };
        let done = progress.evaluation.index + 1;
        self.0.preview.is_some() && done < progress.total && done.is_multiple_of(every)
    }

    fn previews_decoded(&self) -> bool {
        self.0.preview_decoded != 0
    }

    fn preview(&mut self, images: Tensor<4>) {
        let Some(show) = self.0.preview else { return };
        let Ok(pictures) = Picture::from_batch(images) else {
            return;
        };
        for (item, picture) in pictures.iter().enumerate() {
            let pixels = rgba(picture);
            let told = afterimage_preview {
                size: size_of::<afterimage_preview>(),
                item: item as u64,
                width: picture.width() as u64,
                height: picture.height() as u64,
                pixels: pixels.as_ptr(),
                length: pixels.len() as u64,
            };
            let _inside = Inside::begin();
            show(self.0.user_data, &raw const told);
        }
    }

    fn warn(&mut self, message: &str) {
        if let Some(warning) = self.0.warning {
            let _inside = Inside::begin();
            warning(self.0.user_data, c_string(message).as_ptr());
        }
    }
}
