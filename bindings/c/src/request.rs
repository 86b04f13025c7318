//! Recipes for programs that have no JSON.

use std::{
    ffi::c_char,
    ptr::null_mut,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Map, Value, json};

use crate::{
    fault::{Fault, afterimage_code, afterimage_error, guard},
    handles::{Handle, Held, find, forget, give},
    memory::{give_text, needed, put},
};

/// A recipe that is written down piece by piece, for programs that have no JSON at hand. Owned by the program, which frees it with
/// `afterimage_request_free`. Any thread may write into it.
pub struct afterimage_request {
    _opaque: [u8; 0],
}

/// The keys of a recipe so far.
pub(crate) struct Builder(Map<String, Value>);

impl Handle for afterimage_request {
    type Kept = Arc<Mutex<Builder>>;
    const NAME: &'static str = "request";

    fn of(held: &Held) -> Option<Self::Kept> {
        match held {
            Held::Request(builder) => Some(Arc::clone(builder)),
            _ => None,
        }
    }
}

/// Makes a request that says nothing: the model's defaults, and a random seed. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_new(
    request: *mut *mut afterimage_request,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        put(request, "place for the request", || {
            let mut keys = Map::new();
            keys.insert("version".into(), 1.into());
            let builder = Arc::new(Mutex::new(Builder(keys)));
            Ok(give(Held::Request(builder)))
        })
    })
}

/// Frees a request. Null is nothing to free; what was freed already is answered with `AFTERIMAGE_CODE_HANDLE`. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_free(request: *mut afterimage_request) -> afterimage_code {
    guard(null_mut(), || forget(request))
}

/// Adds a prompt; there is a picture or film of each. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_add_prompt(
    request: *const afterimage_request,
    prompt: *const c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || add(request, "prompts", needed(prompt, "prompt")?))
}

/// Adds what pictures avoid: once for all prompts, or once a prompt. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_add_negative_prompt(
    request: *const afterimage_request,
    prompt: *const c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        add(
            request,
            "negative_prompts",
            needed(prompt, "negative prompt")?,
        )
    })
}

/// Sets the seed. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_set_seed(
    request: *const afterimage_request,
    seed: u64,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || set(request, "seed", seed.into()))
}

/// Sets the steps of the sampler. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_set_steps(
    request: *const afterimage_request,
    steps: u32,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || set(request, "steps", steps.into()))
}

/// Sets how strongly prompts guide; a number that is none is refused. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_set_guidance_scale(
    request: *const afterimage_request,
    scale: f64,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        if !scale.is_finite() {
            return Err(Fault::Argument {
                message: format!("the guidance scale is {scale}"),
                hint: "it is a number, mostly between 1 and 15",
            });
        }
        set(request, "guidance_scale", scale.into())
    })
}

/// Sets width and height in pixels. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_set_size(
    request: *const afterimage_request,
    width: u32,
    height: u32,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || set(request, "size", json!([width, height])))
}

/// Sets the pictures of each prompt. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_set_batch(
    request: *const afterimage_request,
    batch: u32,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || set(request, "batch", batch.into()))
}

/// Sets the sampler by its name, as in `ddim`; it is looked up when the recipe is read. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_set_sampler(
    request: *const afterimage_request,
    sampler: *const c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        set(request, "sampler", needed(sampler, "sampler")?.into())
    })
}

/// Sets what is reused between steps, as in `deepcache:interval=3,branch=0`; it is read when the recipe is. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_set_cache(
    request: *const afterimage_request,
    rule: *const c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        set(request, "cache", needed(rule, "cache rule")?.into())
    })
}

/// Writes the recipe to `*json`, which the program frees with `afterimage_free`: for `afterimage_run`, `afterimage_plan`, or to be kept. Any thread
/// may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_request_recipe(
    request: *const afterimage_request,
    json: *mut *mut c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        let text = with(request, |keys| Value::from(keys.clone()).to_string())?;
        give_text(json, &text)
    })
}

fn with<T>(
    request: *const afterimage_request,
    work: impl FnOnce(&mut Map<String, Value>) -> T,
) -> Result<T, Fault> {
    let builder = find(request)?;
    let mut builder = builder.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(work(&mut builder.0))
}

fn set(request: *const afterimage_request, key: &str, value: Value) -> Result<(), Fault> {
    with(request, |keys| {
        keys.insert(key.to_owned(), value);
    })
}

fn add(request: *const afterimage_request, key: &str, value: &str) -> Result<(), Fault> {
    with(request, |keys| {
        let list = keys.entry(key).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(value.into());
        }
    })
}
