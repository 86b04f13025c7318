//! Errors as Python's exceptions.

use afterimage::{Error, ErrorKind};
use pyo3::{create_exception, exceptions::PyException, prelude::*};

create_exception!(
    afterimage,
    AfterimageError,
    PyException,
    "What the engine refuses or fails at. `message` says what, `hint` what to do about it (or None)."
);
create_exception!(
    afterimage,
    RequestError,
    AfterimageError,
    "What was asked for does not fit the model, or is no request."
);
create_exception!(
    afterimage,
    PlanError,
    AfterimageError,
    "A cache rule does not fit the model or the run."
);
create_exception!(
    afterimage,
    ModelError,
    AfterimageError,
    "A model's configuration or weights are missing, damaged or not supported."
);
create_exception!(
    afterimage,
    FileError,
    AfterimageError,
    "A file cannot be read or written."
);
create_exception!(
    afterimage,
    DeviceError,
    AfterimageError,
    "There is no such device, its memory does not suffice, or it failed."
);
create_exception!(
    afterimage,
    Cancelled,
    AfterimageError,
    "The run was cancelled by a callback that returned False."
);

/// Puts the exceptions into the module.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("AfterimageError", py.get_type::<AfterimageError>())?;
    module.add("RequestError", py.get_type::<RequestError>())?;
    module.add("PlanError", py.get_type::<PlanError>())?;
    module.add("ModelError", py.get_type::<ModelError>())?;
    module.add("FileError", py.get_type::<FileError>())?;
    module.add("DeviceError", py.get_type::<DeviceError>())?;
    module.add("Cancelled", py.get_type::<Cancelled>())
}

/// `error` as an exception that has `message` and `hint`.
pub(crate) fn raised(error: &Error) -> PyErr {
    let text = error.to_string();
    let exception = match error.kind() {
        ErrorKind::Config | ErrorKind::Weights => ModelError::new_err(text),
        ErrorKind::Request => RequestError::new_err(text),
        ErrorKind::Plan => PlanError::new_err(text),
        ErrorKind::Device => DeviceError::new_err(text),
        ErrorKind::File => FileError::new_err(text),
        ErrorKind::Cancelled => Cancelled::new_err(text),
        _ => AfterimageError::new_err(text),
    };
    Python::attach(|py| {
        let value = exception.value(py);
        let told = value
            .setattr("message", error.message())
            .and_then(|()| value.setattr("hint", error.hint()));
        told.map_or_else(|failed| failed, |()| exception.clone_ref(py))
    })
}
