//! How the program is linked: with its relocations packed, where the C library that loads it can unpack them. There are 400 000 of them with
//! the GPU's compilers, of 24 bytes each, and packed they take a fiftieth of that.

use std::env;
use std::process::Command;

/// The first glibc that unpacks them.
const UNPACKS: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of_target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    let is_native = env::var_os("HOST") == env::var_os("TARGET");
    let is_glibc = of_target("OS") == "linux" && of_target("ENV") == "gnu";
    if is_native && is_glibc && glibc().is_some_and(|version| version >= UNPACKS) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library.
fn glibc() -> Option<(u32, u32)> {
    let asked = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let told = String::from_utf8(asked.ok()?.stdout).ok()?;
    let version = told.trim().strip_prefix("glibc ")?;
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
