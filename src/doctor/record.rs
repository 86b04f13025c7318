//! What is known of a device's kernels, kept for later processes: one file a device, driver and version of this program.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::PathBuf,
    thread::sleep,
    time::Duration,
};

use burn::tensor::{DType, FloatDType};
use serde::{Deserialize, Serialize};

use super::{Examination, Fallback, Kernel, Quarantine};
use crate::{
    device::{self, DeviceInfo, DtypeChoice, OpenDevice},
    error::{Error, FileError},
    image_io::write_atomically,
    ops::quarantine,
};

/// Counts up when kernels or checks change within a version of the program.
const KERNELS: u32 = 1;

const WHAT: &str = "the list of kernels";

/// How long another process may take over its change of a record, in waits of a hundredth of a second.
const LONGEST_TURN: usize = 1000;

/// A folder of records.
#[derive(Debug, Clone)]
pub struct Records(PathBuf);

impl Records {
    /// Below [`device::user_cache`], where the system names such a place.
    pub fn of_user() -> Option<Self> {
        Some(Self::at(device::user_cache()?.join("doctor")))
    }

    /// In `folder`, which is made when it is needed.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The file about `device`.
    pub fn path(&self, device: &OpenDevice) -> PathBuf {
        let (name, version) = (device.info().fingerprint(), env!("CARGO_PKG_VERSION"));
        self.0.join(format!("{name}-{version}-{KERNELS}.json"))
    }

    /// What is known of `device`. A file that cannot be read is as good as none, and is logged; one that says nothing of this device is
    /// removed as well, so that it is logged once.
    pub fn read(&self, device: &OpenDevice) -> Option<Record> {
        let path = self.path(device);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if is_nowhere(&error) => return None,
            Err(error) => {
                tracing::warn!("{WHAT} cannot be read: {error}\nfile: {}", path.display());
                return None;
            }
        };
        let useless = |reason: &String| {
            let path = path.display();
            tracing::warn!(
                "{WHAT} is of no use, and made anew by the next check: {reason}\nfile: {path}"
            );
        };
        let read = Record::from_json(&text, device.info()).inspect_err(useless);
        if read.is_err() {
            // Whoever writes the next one replaces it all the same.
            let _ = fs::remove_file(&path);
        }
        read.ok()
    }

    /// Waits for other processes that change the records; until the answer is dropped, they wait for this one. Where the folder cannot
    /// be locked, nobody waits: then one may forget what another found at the same moment, and it is checked again.
    pub fn turn(&self) -> Turn {
        let folder = fs::create_dir_all(&self.0).and_then(|()| File::open(&self.0));
        let Ok(folder) = folder else {
            return Turn(None);
        };
        for _ in 0..LONGEST_TURN {
            match folder.try_lock() {
                Ok(()) => return Turn(Some(folder)),
                Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(_)) => break,
            }
        }
        Turn(None)
    }

    /// Writes the file about `device` whole or not at all.
    ///
    /// # Errors
    ///
    /// A file error if the folder takes no file.
    pub fn write(&self, device: &OpenDevice, record: &Record) -> Result<(), Error> {
        let path = self.path(device);
        fs::create_dir_all(&self.0).map_err(|source| FileError::Write {
            what: WHAT.into(),
            path: path.clone(),
            source,
        })?;
        write_atomically(&path, WHAT, |file| {
            serde_json::to_writer_pretty(&mut *file, record)?;
            file.write_all(b"\n")
        })
    }
}

/// The right to change records, until it is dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "the lock ends with the file")] Option<File>);

/// The findings about a device that outlive a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    patient: Patient,
    checked: Vec<String>,
    quarantined: Vec<Entry>,
    wrong: Vec<Entry>,
}

/// Whom the findings are about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Patient {
    device: String,
    runtime: String,
    driver: Option<String>,
    program: String,
    kernels: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    kernel: Kernel,
    dtype: String,
    /// `None` where nothing is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallback: Option<Fallback>,
}

impl Patient {
    fn new(info: &DeviceInfo) -> Self {
        Self {
            device: info.name.clone(),
            runtime: info.runtime.into(),
            driver: info.driver.clone(),
            program: env!("CARGO_PKG_VERSION").into(),
            kernels: KERNELS,
        }
    }
}

impl Examination {
    /// What later processes need to know.
    pub fn record(&self, device: &OpenDevice) -> Record {
        let entry = |kernel, dtype: DType, fallback| Entry {
            kernel,
            dtype: dtype.name().into(),
            fallback,
        };
        let checked = self.dtypes.iter().map(|dtype| dtype.name().into());
        let replaced = self.quarantine.entries().iter();
        let wrong = self.wrong.iter();
        Record {
            patient: Patient::new(device.info()),
            checked: checked.collect(),
            quarantined: replaced
                .map(|&(kernel, dtype, fallback)| entry(kernel, dtype, Some(fallback)))
                .collect(),
            wrong: wrong
                .map(|&(kernel, dtype)| entry(kernel, dtype, None))
                .collect(),
        }
    }
}

impl Record {
    fn from_json(text: &str, info: &DeviceInfo) -> Result<Self, String> {
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if record.patient != Patient::new(info) {
            return Err("it is about another device, driver or version".into());
        }
        let nameless = record
            .entries()
            .find(|entry| dtype_named(&entry.dtype).is_none());
        if let Some(entry) = nameless {
            return Err(format!("`{}` is no data type", entry.dtype));
        }
        Ok(record)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.quarantined.iter().chain(&self.wrong)
    }

    /// With what `earlier` knows of data types that were not checked this time.
    #[must_use]
    pub fn with(mut self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let new = |dtype: &String| !self.checked.contains(dtype);
        let others: Vec<_> = earlier.checked.into_iter().filter(new).collect();
        let kept = |entries: Vec<Entry>| {
            let of_others = |entry: &Entry| others.contains(&entry.dtype);
            entries.into_iter().filter(of_others).collect::<Vec<_>>()
        };
        self.quarantined.extend(kept(earlier.quarantined));
        self.wrong.extend(kept(earlier.wrong));
        self.checked.extend(others);
        self
    }

    /// Whether every one of `dtypes` was checked.
    pub fn covers(&self, dtypes: &[FloatDType]) -> bool {
        let checked = |dtype: &FloatDType| {
            let name = DType::from(*dtype).name();
            self.checked.iter().any(|known| known == name)
        };
        dtypes.iter().all(checked)
    }

    /// What the device does without.
    pub fn quarantine(&self) -> Quarantine {
        let mut quarantine = Quarantine::default();
        for entry in &self.quarantined {
            if let (Some(dtype), Some(fallback)) = (dtype_named(&entry.dtype), entry.fallback) {
                quarantine.insert(entry.kernel, dtype, fallback);
            }
        }
        quarantine
    }

    /// Kernels that are wrong and cannot be replaced, with the data type's name.
    pub fn wrong(&self) -> impl Iterator<Item = (Kernel, &str)> {
        self.wrong
            .iter()
            .map(|entry| (entry.kernel, entry.dtype.as_str()))
    }

    /// Has this process do without what is quarantined on `device`.
    pub fn honour(&self, device: &OpenDevice) {
        quarantine::set(device.device(), self.quarantine());
    }
}

fn is_nowhere(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};

    matches!(error.kind(), NotFound | NotADirectory)
}

fn dtype_named(name: &str) -> Option<DType> {
    let choice: DtypeChoice = name.parse().ok()?;
    Some(choice.float().into())
}
