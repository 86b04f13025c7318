//! What the processor's caches hold, asked of the system once: sizes of blocks follow them.

use std::path::Path;
use std::sync::LazyLock;

/// Bytes of the caches that a core has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caches {
    pub(super) first: usize,
    pub(super) second: usize,
}

/// Where the system does not say, those of a small recent processor.
const USUAL: Caches = Caches {
    first: 32 << 10,
    second: 512 << 10,
};

static CACHES: LazyLock<Caches> =
    LazyLock::new(|| Caches::told(Path::new("/sys/devices/system/cpu/cpu0/cache")));

pub(super) fn caches() -> Caches {
    *CACHES
}

impl Caches {
    /// By the files that Linux has of a core's caches, a folder each.
    fn told(folder: &Path) -> Self {
        let mut caches = USUAL;
        for index in 0..8 {
            let cache = folder.join(format!("index{index}"));
            let read = |name: &str| std::fs::read_to_string(cache.join(name)).ok();
            let (Some(level), Some(kind), Some(size)) = (read("level"), read("type"), read("size"))
            else {
                continue;
            };
            let Some(size) = bytes(size.trim()).filter(|_| kind.trim() != "Instruction") else {
                continue;
            };
            match level.trim() {
                "1" => caches.first = size,
                "2" => caches.second = size,
                _ => {}
            }
        }
        // Nobody's are smaller or larger; a virtual machine may say anything.
        Self {
            first: caches.first.clamp(16 << 10, 256 << 10),
            second: caches.second.clamp(128 << 10, 16 << 20),
        }
    }
}

/// `32K` or `1M`.
fn bytes(text: &str) -> Option<usize> {
    let unit = match text.chars().last()? {
        'K' => 10,
        'M' => 20,
        _ => return text.parse().ok(),
    };
    let count: usize = text[..text.len() - 1].parse().ok()?;
    Some(count << unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_system_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        let caches = [
            ("index0", "1", "Data", "48K"),
            ("index1", "1", "Instruction", "64K"),
            ("index2", "2", "Unified", "2M"),
            ("index3", "3", "Unified", "32768K"),
        ];
        for (index, level, kind, size) in caches {
            let cache = folder.path().join(index);
            std::fs::create_dir(&cache).unwrap();
            for (name, text) in [("level", level), ("type", kind), ("size", size)] {
                std::fs::write(cache.join(name), format!("{text}\n")).unwrap();
            }
        }
        let expected = Caches {
            first: 48 << 10,
            second: 2 << 20,
        };
        assert_eq!(Caches::told(folder.path()), expected);
        assert_eq!(Caches::told(Path::new("/nowhere")), USUAL);
    }
}
