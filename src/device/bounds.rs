//! What bounds the main memory of this process below what the machine has: its control groups, as containers, batch systems and `systemd` set
//! them, and `ulimit -v` and `-d`. Who goes beyond is killed by the system without a word, or is given nothing more.
//!
//! Sources: Linux, `Documentation/admin-guide/cgroup-v2.rst` ("Memory") and `cgroup-v1/memory.rst`; proc(5): `/proc/self/cgroup`, `mountinfo`,
//! `limits`, `status`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes from which a limit is none: groups of version 1 say so by the largest number of whole pages.
const UNLIMITED: u64 = 1 << 62;

/// A limit of main memory, and what is left of it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) limit: u64,
    pub(super) left: u64,
}

/// All that bound this process; none where the system tells of none.
pub(super) fn bounds() -> Vec<Bound> {
    bounds_in(Path::new("/"))
}

/// The same with the system's tables below `root`.
fn bounds_in(root: &Path) -> Vec<Bound> {
    let groups = groups(root);
    let groups = groups
        .iter()
        .filter_map(|(version, folder)| version.bound(folder));
    groups.chain(process_limits(root)).collect()
}

/// The two ways in which groups are laid out.
#[derive(Debug, Clone, Copy)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The limit of the group in `folder`, if it has one. What the system keeps of files goes when memory is needed.
    fn bound(self, folder: &Path) -> Option<Bound> {
        let (limit, held, kept) = match self {
            Self::One => (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                ["total_inactive_file", "total_active_file"],
            ),
            Self::Two => (
                "memory.max",
                "memory.current",
                ["inactive_file", "active_file"],
            ),
        };
        let number = |name: &str| read(&folder.join(name))?.trim().parse::<u64>().ok();
        let limit = number(limit).filter(|limit| *limit < UNLIMITED)?;
        let held = number(held).unwrap_or(0);
        let told = read(&folder.join("memory.stat")).unwrap_or_default();
        let lines = told.lines().filter_map(|line| line.split_once(' '));
        let files = lines.filter(|(name, _)| kept.contains(name));
        let files: u64 = files
            .filter_map(|(_, bytes)| bytes.parse::<u64>().ok())
            .sum();
        let left = limit.saturating_sub(held.saturating_sub(files));
        Some(Bound { limit, left })
    }
}

/// The folders of the groups that count the memory of this process: its own, and those that they are in.
fn groups(root: &Path) -> Vec<(Version, PathBuf)> {
    let own = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let mounts = read(&root.join("proc/self/mountinfo")).unwrap_or_default();
    let mut found = Vec::new();
    for line in own.lines() {
        // A number, what the hierarchy controls, and the group in it.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controls), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let version = match controls {
            "" => Version::Two,
            some if some.split(',').any(|name| name == "memory") => Version::One,
            _ => continue,
        };
        let mut mounts = mounts.lines();
        let folders = mounts.find_map(|line| mounted(line, version, path, root));
        found.extend(
            folders
                .into_iter()
                .flatten()
                .map(|folder| (version, folder)),
        );
    }
    found
}

/// The folders of the group `path` and of all above it, if this line of the table of mounts is of its hierarchy. A container may see no more of
/// that than its own part.
fn mounted(line: &str, version: Version, path: &str, root: &Path) -> Option<Vec<PathBuf>> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (shown, mount) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let is_its = match (version, kind.next()?) {
        (Version::Two, "cgroup2") => true,
        (Version::One, "cgroup") => kind.nth(1)?.split(',').any(|option| option == "memory"),
        _ => false,
    };
    if !is_its {
        return None;
    }
    let mount = root.join(mount.trim_start_matches('/'));
    let below = Path::new(path).strip_prefix(shown).unwrap_or(Path::new(""));
    let folder = mount.join(below);
    let folders = folder
        .ancestors()
        .take_while(|above| above.starts_with(&mount));
    Some(folders.map(Path::to_owned).collect())
}

/// What `ulimit -v` and `-d` leave.
fn process_limits(root: &Path) -> Vec<Bound> {
    let limits = read(&root.join("proc/self/limits")).unwrap_or_default();
    let status = read(&root.join("proc/self/status")).unwrap_or_default();
    let held = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
        Some(kibibytes * 1024)
    };
    let bound = |(name, key): (&str, &str)| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        let limit = line.split_whitespace().next()?.parse().ok()?;
        let left = limit - held(key)?.min(limit);
        Some(Bound { limit, left })
    };
    let known = [
        ("Max address space", "VmSize:"),
        ("Max data size", "VmData:"),
    ];
    known.into_iter().filter_map(bound).collect()
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system with these tables.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        root
    }

    fn found(files: &[(&str, &str)]) -> Vec<Bound> {
        bounds_in(system(files).path())
    }

    fn bound(limit: u64, left: u64) -> Bound {
        Bound { limit, left }
    }

    const SECOND: &str = "31 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_container_sees_its_own_group_at_the_root() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", SECOND),
            ("sys/fs/cgroup/memory.max", "4000\n"),
            ("sys/fs/cgroup/memory.current", "3000\n"),
            (
                "sys/fs/cgroup/memory.stat",
                "anon 1000\nfile 2500\ninactive_file 1500\nactive_file 200\n",
            ),
        ];
        assert_eq!(found(&files), [bound(4000, 2700)]);
    }

    #[test]
    fn groups_above_bound_too() {
        let files = [
            ("proc/self/cgroup", "0::/job.slice/step/task\n"),
            ("proc/self/mountinfo", SECOND),
            ("sys/fs/cgroup/job.slice/step/task/memory.max", "max\n"),
            ("sys/fs/cgroup/job.slice/step/memory.max", "700\n"),
            ("sys/fs/cgroup/job.slice/step/memory.current", "900\n"),
            ("sys/fs/cgroup/job.slice/memory.max", "9000\n"),
        ];
        assert_eq!(found(&files), [bound(700, 0), bound(9000, 9000)]);
    }

    #[test]
    fn the_first_version_has_other_names() {
        let mounts = "30 24 0:26 /docker/ab /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n\
            32 24 0:28 /docker/ab /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n";
        let group = "5:cpu:/docker/ab\n4:memory:/docker/ab\n0::/\n";
        let limit = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        let files = [
            ("proc/self/cgroup", group),
            ("proc/self/mountinfo", mounts),
            (limit, "5000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "2000\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "inactive_file 7\ntotal_inactive_file 500\ntotal_active_file 0\n",
            ),
        ];
        assert_eq!(found(&files), [bound(5000, 3500)]);
        let mut free = files;
        free[2] = (limit, "9223372036854771712\n");
        assert_eq!(found(&free), []);
    }

    #[test]
    fn limits_of_the_process_bound_it() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max data size             unlimited            unlimited            bytes     \n\
            Max address space         4096000              unlimited            bytes     \n";
        let files = [
            ("proc/self/limits", limits),
            (
                "proc/self/status",
                "Name:\ta\nVmSize:\t    1000 kB\nVmData:\t  10 kB\n",
            ),
        ];
        assert_eq!(found(&files), [bound(4_096_000, 3_072_000)]);
    }

    #[test]
    fn what_tells_nothing_bounds_nothing() {
        assert_eq!(found(&[]), []);
        let files = [
            ("proc/self/cgroup", "0::/gone\nodd\n"),
            ("proc/self/mountinfo", SECOND),
            ("proc/self/limits", "Max address space\n"),
        ];
        assert_eq!(found(&files), []);
    }
}
