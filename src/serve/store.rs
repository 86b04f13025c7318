//! Files of jobs: what came with the request, what was made. A folder each.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys::{is_id, random_key};
use crate::{
    error::{Error, FileError},
    image_io::make_folder,
};

/// What a finished job is kept by.
const RECORD: &str = "job.json";

/// Where all folders are.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
    /// Whether it outlives the server.
    lasting: bool,
    /// Goes with the last handle.
    _temporary: Option<Arc<tempfile::TempDir>>,
}

/// Of one job; it goes with the job, unless it is to stay.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) id: String,
    pub(super) path: PathBuf,
    stays: AtomicBool,
    bytes: AtomicU64,
}

/// A finished job on the disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) owner: String,
    pub(super) key: String,
    /// As clients see it.
    pub(super) job: Value,
    /// Hashes of what came with the request, and the files' names in the folder.
    pub(super) inputs: Vec<(String, String)>,
}

impl Store {
    /// In `root`, or in a folder that goes with the server.
    pub(super) fn open(root: Option<&Path>) -> Result<Self, Error> {
        if let Some(root) = root {
            make_folder(root, "results")?;
            return Ok(Self {
                root: root.to_owned(),
                lasting: true,
                _temporary: None,
            });
        }
        let folder = tempfile::Builder::new()
            .prefix("afterimage-serve-")
            .tempdir();
        let folder = folder.map_err(|source| FileError::Write {
            what: "results".into(),
            path: std::env::temp_dir(),
            source,
        })?;
        Ok(Self {
            root: folder.path().to_owned(),
            lasting: false,
            _temporary: Some(Arc::new(folder)),
        })
    }

    /// Whether results outlive the server.
    pub(super) fn lasts(&self) -> bool {
        self.lasting
    }

    /// A folder for a new job.
    pub(super) fn folder(&self) -> io::Result<Folder> {
        let id = random_key();
        let path = self.root.join(&id);
        fs::create_dir(&path)?;
        Ok(Folder::of(id, path))
    }

    /// Jobs that servers before this one have finished; what they left unfinished goes.
    pub(super) fn kept(&self) -> Vec<(Record, Folder)> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let ours = entries.filter_map(|entry| {
            let id = entry.file_name().into_string().ok()?;
            is_id(&id).then(|| Folder::of(id, entry.path()))
        });
        // One without a record goes here, as it is dropped.
        let kept = ours.filter_map(|folder| Some((folder.record()?, folder)));
        let kept = kept.inspect(|(_, folder)| folder.stay());
        kept.collect()
    }
}

impl Folder {
    fn of(id: String, path: PathBuf) -> Self {
        Self {
            id,
            path,
            stays: AtomicBool::default(),
            bytes: AtomicU64::default(),
        }
    }

    /// Writes a file into it.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, bytes)?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(path)
    }

    /// Has a file of another folder in this one too.
    pub(super) fn borrow(&self, name: &str, from: &Path) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::hard_link(from, &path).or_else(|_| fs::copy(from, &path).map(drop))?;
        Ok(path)
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps a finished job, for the next server.
    pub(super) fn keep(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec(record)?;
        let path = self.path.join(RECORD);
        let pending = self.path.join("job.json.new");
        fs::write(&pending, text)?;
        fs::rename(pending, path)?;
        self.stay();
        Ok(())
    }

    fn stay(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    /// Has it go with the job.
    pub(super) fn go(&self) {
        self.stays.store(false, Ordering::Relaxed);
    }

    fn record(&self) -> Option<Record> {
        let text = fs::read(self.path.join(RECORD)).ok()?;
        let files = fs::read_dir(&self.path).ok()?.flatten();
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        self.bytes.store(sizes.sum(), Ordering::Relaxed);
        serde_json::from_slice(&text).ok()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if *self.stays.get_mut() {
            return;
        }
        if let Err(cause) = fs::remove_dir_all(&self.path) {
            tracing::debug!("files of job {} stay: {cause}", self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            owner: "alice".into(),
            key: random_key(),
            job: Value::Null,
            inputs: Vec::new(),
        }
    }

    #[test]
    fn finished_jobs_outlive_the_server_and_others_go() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(Some(root.path())).unwrap();
        fs::write(root.path().join("notes.txt"), "mine").unwrap();
        let (done, open) = (store.folder().unwrap(), store.folder().unwrap());
        done.write("0.png", b"picture").unwrap();
        done.keep(&record()).unwrap();
        std::mem::forget(open); // as when the server is killed
        let id = done.id.clone();
        drop(done);
        let kept = store.kept();
        let ids: Vec<_> = kept.iter().map(|(_, folder)| &folder.id).collect();
        assert_eq!(ids, [&id]);
        assert!(kept[0].1.bytes() > 7);
        kept[0].1.go();
        drop(kept);
        assert!(store.kept().is_empty());
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "what is not ours stays"
        );
    }
}
