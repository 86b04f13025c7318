//! Faults below the program: disks that are full or broken, processes that die, clocks that jump, caches that are damaged or nowhere.
//!
//! Each is injected under the whole program (`shim`), and each test first shows that its fault fired. By default a choice of them is
//! tried; `scripts/faults.sh` sets `AFTERIMAGE_FAULTS=all` and tries every one.

mod clocks;
mod commands;
mod damaged;
#[cfg(feature = "hub")]
mod fetched;
mod killed;
mod places;
mod shared;
mod shim;
mod writes;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Whether every fault is tried, or a choice of them.
fn all() -> bool {
    std::env::var_os("AFTERIMAGE_FAULTS").is_some_and(|value| value == "all")
}

/// How many faults were injected into what, and how many fired; `scripts/faults.sh` reads these lines.
fn tell(what: &str, fault: &str, injected: usize, fired: usize) {
    eprintln!("faults | {what} | {fault} | {injected} | {fired}");
}

/// Every file below `folder`, in the order of names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Files that were begun and not finished.
fn temporaries(folder: &Path) -> Vec<PathBuf> {
    let is_temporary = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "partial");
    files(folder).into_iter().filter(is_temporary).collect()
}

/// A copy of `folder` to do harm to.
fn copy(folder: &Path) -> tempfile::TempDir {
    let target = tempfile::tempdir().expect("a folder");
    for file in files(folder) {
        let place = target
            .path()
            .join(file.strip_prefix(folder).expect("below"));
        fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        fs::copy(&file, place).expect("a copy");
    }
    target
}

/// A sequence of numbers that a seed fixes (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}
