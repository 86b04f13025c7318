//! What cubecl learns of a device, kept for later processes: which kernels are the fastest, and what they compile to.
//!
//! cubecl keeps it in a database, by default below `target/` of whatever checkout the process was started in, and leaves the compiled
//! kernels out. Here it goes to the user's cache directory, one database a device and driver. A program that sets cubecl's
//! configuration before it opens a device, or has a `cubecl.toml`, keeps its own.

use std::{
    env, fs,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use burn::cubecl::{
    config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig},
    environment,
};

use super::{DeviceInfo, TUNED, Workload, database, user_cache};

/// Whether the configuration of this process is [`configuration`].
static OURS: AtomicBool = AtomicBool::new(false);

/// Configures cubecl, once and before anything of it is used.
pub(super) fn configure() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(root) = user_cache() else { return };
        let folders = env::current_dir().unwrap_or_default();
        if !has_configuration(&folders) {
            let set = CubeClRuntimeConfig::try_set(configuration(root.join("tuning")));
            OURS.store(set, Ordering::Relaxed);
        }
    });
}

fn configuration(root: PathBuf) -> CubeClRuntimeConfig {
    let mut configuration = CubeClRuntimeConfig::default();
    configuration.environment.path = CacheConfig::Directory(root);
    configuration.compilation.cache = true;
    configuration.override_from_env()
}

/// Whether cubecl finds a file of its own in `folder` or above.
fn has_configuration(folder: &Path) -> bool {
    folder.ancestors().any(|folder| {
        let files = CubeClRuntimeConfig::file_names().iter();
        let mut sections = CubeClRuntimeConfig::section_file_names().iter();
        files.into_iter().any(|name| folder.join(name).exists())
            || sections.any(|(name, section)| {
                CubeClRuntimeConfig::from_section_file_path(folder.join(name), section).is_ok()
            })
    })
}

/// Has what is learned from now on kept with what is known of this device and driver; `CUBECL_ENVIRONMENT` names another database.
pub(super) fn select(info: &DeviceInfo) {
    let name = info.fingerprint();
    let is_ours = OURS.load(Ordering::Relaxed) && env::var_os("CUBECL_ENVIRONMENT").is_none();
    // Going over to the same one again would drop everything that is compiled.
    if is_ours && *environment::active() != *name {
        database::discard_damaged(&environment::root().join(environment::file_name(&name)));
        environment::activate(name);
    }
}

/// Whether kernels were tuned for `workload` on the device selected last.
pub(super) fn knows(workload: &Workload) -> bool {
    environment::path().exists() && is_listed(&list(), &workload.name)
}

/// Notes that kernels were tuned for `workload` on the device selected last. What cannot be written is tuned for again.
pub(super) fn note(workload: &Workload) {
    if let Err(error) = append(&list(), &workload.name) {
        tracing::debug!("cannot note what kernels were tuned for: {error}");
    }
}

/// The list of workloads, beside the database.
fn list() -> PathBuf {
    environment::path().with_extension(TUNED)
}

fn is_listed(list: &Path, name: &str) -> bool {
    let bytes = fs::read(list).unwrap_or_default();
    bytes
        .split(|&byte| byte == b'\n')
        .any(|line| line == name.as_bytes())
}

fn append(list: &Path, name: &str) -> io::Result<()> {
    if is_listed(list, name) {
        return Ok(());
    }
    // A line that was cut off is not gone on with.
    let is_cut = fs::read(list).is_ok_and(|bytes| bytes.last().is_some_and(|&byte| byte != b'\n'));
    let start = if is_cut { "\n" } else { "" };
    let mut file = File::options().append(true).create(true).open(list)?;
    // In one write, so that lines of two processes do not mix.
    file.write_all(format!("{start}{name}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_users_and_kernels_are_kept() {
        let configuration = configuration("/somewhere".into());
        assert_eq!(
            configuration.environment.path.root(),
            Path::new("/somewhere")
        );
        assert!(configuration.compilation.cache);
    }

    #[test]
    fn files_of_cubecl_are_seen_from_below() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        assert!(!has_configuration(&below));
        fs::write(folder.path().join("burn.toml"), "[fusion]\n").unwrap();
        assert!(!has_configuration(&below));
        fs::write(
            folder.path().join("burn.toml"),
            "[cubecl.environment]\nname = \"a\"\n",
        )
        .unwrap();
        assert!(has_configuration(&below));
        fs::remove_file(folder.path().join("burn.toml")).unwrap();
        fs::write(folder.path().join("a/cubecl.toml"), "").unwrap();
        assert!(has_configuration(&below));
    }

    #[test]
    fn workloads_are_listed_once() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("a.runs");
        assert!(!is_listed(&list, "scenes"));
        append(&list, "scenes").unwrap();
        append(&list, "scenes-dit").unwrap();
        append(&list, "scenes").unwrap();
        assert!(is_listed(&list, "scenes") && !is_listed(&list, "scen"));
        assert_eq!(fs::read_to_string(&list).unwrap(), "scenes\nscenes-dit\n");
    }

    #[test]
    fn a_damaged_list_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("a.runs");
        for damaged in [&b"\xff\xfe\x00"[..], b"scenes\nscen", b"\n\n"] {
            fs::write(&list, damaged).unwrap();
            append(&list, "scenes-dit").unwrap();
            append(&list, "scenes-dit").unwrap();
            let bytes = fs::read(&list).unwrap();
            assert!(bytes.starts_with(damaged) && bytes.ends_with(b"\nscenes-dit\n"));
            assert!(bytes.len() <= damaged.len() + 12);
        }
    }
}
