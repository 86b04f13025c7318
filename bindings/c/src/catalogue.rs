//! What can be asked without a model in memory.

use std::ffi::c_char;

use afterimage::{
    device::{self, DeviceInfo},
    engine,
    pipeline::Recipe,
};
use serde_json::{Value, json};

use crate::{
    fault::{afterimage_code, afterimage_error, guard},
    memory::{give_text, needed},
};

/// The version of this interface: what a program compiled against one calls, every later library of the same number has. Structs grow within it.
pub const AFTERIMAGE_ABI_VERSION: u32 = 1;

/// The interface that the library has; programs compare it with `AFTERIMAGE_ABI_VERSION` before they call anything else. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_abi_version() -> u32 {
    AFTERIMAGE_ABI_VERSION
}

/// The library's version, as in `0.1.0`. The text is the library's and lives as long as it. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_version() -> *const c_char {
    const VERSION: &std::ffi::CStr = match std::ffi::CStr::from_bytes_with_nul(
        concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes(),
    ) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// Writes the devices that this build reaches to `*json`, which the program frees with `afterimage_free`: an array of objects with `selector`
/// (for `afterimage_open_options`), `name`, `class`, `runtime`, `driver`, `memory` in bytes, `dtypes`, and `automatic` on the one that is taken
/// when none is named; devices that do not start have `failure` alone. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_devices(
    json: *mut *mut c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        let automatic = device::automatic().map(|(info, _)| info.selector).ok();
        let devices = device::list().into_iter().map(|device| match device {
            Ok(info) => described(&info, automatic.as_ref()),
            Err(error) => json!({"failure": error.to_string()}),
        });
        let devices: Vec<Value> = devices.collect();
        give_text(json, &Value::from(devices).to_string())
    })
}

fn described(info: &DeviceInfo, automatic: Option<&String>) -> Value {
    let dtypes: Vec<_> = info.dtypes.iter().map(|dtype| dtype.name()).collect();
    json!({
        "selector": info.selector,
        "name": info.name,
        "class": info.class.name(),
        "runtime": info.runtime,
        "driver": info.driver,
        "memory": info.memory,
        "dtypes": dtypes,
        "automatic": Some(&info.selector) == automatic,
    })
}

/// Writes what a recipe would do to `*json`, which the program frees with `afterimage_free`: what `afterimage plan --json` prints. Nothing but
/// configurations, and pictures that the recipe names, are read. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn afterimage_plan(
    recipe: *const c_char,
    json: *mut *mut c_char,
    error: *mut *mut afterimage_error,
) -> afterimage_code {
    guard(error, || {
        let recipe = Recipe::from_json(needed(recipe, "recipe")?)?;
        give_text(json, &engine::plan(&recipe, &mut ())?)
    })
}
