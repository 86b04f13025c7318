//! Models in memory.

use std::{
    ffi::{c_char, c_void},
    mem::offset_of,
    path::Path,
    ptr::null_mut,
    sync::Arc,
};

use afterimage::{
    catalog::FetchProgress,
    engine::{Engine, EngineOptions, Listener},
    pipeline::Recipe,
};

use crate::{
    fault::{Fault, afterimage_code, afterimage_error, c_string, guard},
    handles::{Handle, Held, find, forget, give},
    memory::{needed, put, text},
    run::refuse_in_callbacks,
    sized::{self, Growing},
};

/// A model in memory. Runs on one model wait for each other, whatever thread they come from; runs on two models go on side by side. Owned by the
/// program, which frees it with `afterimage_model_free`.
pub struct afterimage_model {
    _opaque: [u8; 0],
}

impl Handle for afterimage_model {
    type Kept = Arc<Engine>;
    const NAME: &'static str = "model";

    fn of(held: &Held) -> Option<Self::Kept> {
        match held {
            Held::Model(engine) => Some(Arc::clone(engine)),
            _ => None,
        }
    }
}

/// Told something that the user should know, in UTF-8; the text lives as long as the call. It is called on the thread that called the library,
/// and neither throws nor jumps out.
pub type afterimage_warning_fn = Option<extern "C" fn(user_data: *mut c_void, text: *const c_char)>;

/// How a model is opened. Set `size` to the size of this struct and all else to zero before anything else.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct afterimage_open_options {
    /// Bytes of this struct.
    pub size: usize,
    /// `auto`, `cpu`, `wgpu`, `vulkan`, `metal` or `cuda`; a number picks one of several, as in `cuda:1`. Null is `auto`.
    pub device: *const c_char,
    /// A recipe as JSON, of which model, adapters, data type and the format of weights are taken; null is none.
    pub recipe: *const c_char,
    /// Whether the kernels of a GPU go unchecked on its first use; 0 checks them.
    pub unchecked: u32,
    /// Told what the user should know; may be null.
    pub warning: afterimage_warning_fn,
    /// Handed to `warning` as it is.
    pub user_data: *mut c_void,
}

// SAFETY: `repr(C)`, a size first, then pointers, a number and a function that may be null.
unsafe impl Growing for afterimage_open_options {
    const NAME: &'static str = "afterimage_open_options";
    const STARTS: &'static [usize] = &[
        offset_of!(Self, device),
        offset_of!(Self, recipe),
        offset_of!(Self, unchecked),
        offset_of!(Self, warning),
        offset_of!(Self, user_data),
    ];
}

/// Reads a model into memory: a folder in diffusers' layout, a checkpoint file, `bundled` in builds that carry a model, or a Hub id in builds that
/// fetch; null takes what the options' recipe names, and `bundled` if it names none. `options` may be null. `*model` is the program's, and
/// written on success alone. Any thread may call it, but no callback.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_model_open(
    name: *const c_char,
    options: *const afterimage_open_options,
    model: *mut *mut afterimage_model,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        refuse_in_callbacks()?;
        put(model, "place for the model", || {
            let given = sized::read(options)?;
            let name = text(name, "name of the model")?;
            let options = opened(name, &given)?;
            let engine = Engine::open(&options, &mut Told(given))?;
            Ok(give(Held::Model(Arc::new(engine))))
        })
    })
}

fn opened(name: Option<&str>, given: &afterimage_open_options) -> Result<EngineOptions, Fault> {
    let recipe = text(given.recipe, "recipe")?;
    let mut options = EngineOptions {
        recipe: recipe.map_or_else(|| Ok(Recipe::default()), Recipe::from_json)?,
        unchecked: given.unchecked != 0,
        ..EngineOptions::default()
    };
    if let Some(device) = text(given.device, "device")? {
        options.device = device.parse()?;
    }
    if let Some(name) = name {
        options.recipe.model.name = Some(name.to_owned());
    }
    Ok(options)
}

/// Frees a model. Its memory is given back when runs that are under way on it are done. Null is nothing to free; what was freed already is
/// answered with `AFTERIMAGE_CODE_HANDLE`. Any thread may call it, also during a run.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_model_free(model: *mut afterimage_model) -> afterimage_code {
    guard(null_mut(), || forget(model))
}

/// Writes the device of a model, as in `cuda:0`, to `*text`, which the program frees with `afterimage_free`. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_model_device(
    model: *const afterimage_model,
    text: *mut *mut c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        let engine = find(model)?;
        crate::memory::give_text(text, &engine.device().info().selector)
    })
}

/// Tells a program what there is to say before a run.
pub(crate) struct Told(pub(crate) afterimage_open_options);

impl FetchProgress for Told {
    fn begin(&mut self, _file: &str, _size: u64) {}
    fn advance(&mut self, _bytes: u64) {}
    fn end(&mut self) {}
}

impl Listener for Told {
    fn warn(&mut self, text: &str) {
        if let Some(warning) = self.0.warning {
            let _inside = crate::run::Inside::begin();
            warning(self.0.user_data, c_string(text).as_ptr());
        }
    }
}

/// The recipe of a picture or film that was made by afterimage, or of a file of JSON, as JSON in `*json`, which the program frees with
/// `afterimage_free`. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_recipe_read(
    path: *const c_char,
    json: *mut *mut c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        let path = needed(path, "path")?;
        let recipe = Recipe::read(Path::new(path))?;
        crate::memory::give_text(json, &recipe.to_json())
    })
}
