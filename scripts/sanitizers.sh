#!/usr/bin/env bash
# Sanitizers over the kernels: their unit tests as a crate of its own, where nothing but them and what they stand on is built.
#
#   scripts/sanitizers.sh address [FILTER …]   every access to memory checked, for the index arithmetic; also what Rust's own library checks of
#                                              `unsafe` calls, and overflow. Nothing is pooled (`--cfg unpooled`): all memory has an end of its own
#   scripts/sanitizers.sh thread [FILTER …]    every access against those of other threads, for tasks that write parts of one output
#                                              (`rustup component add rust-src`: whoever does not see how threads wait for each other sees races)
#
# All crates are instrumented, at a level that leaves most accesses where they are written. Minutes; the pinned release of Rust serves.
# As RUSTC_WORKSPACE_WRAPPER it has cargo build the crates of a workspace with AddressSanitizer: scripts/bindings.sh does.
set -euo pipefail
export RUSTC_BOOTSTRAP=1
case "$(basename "${1-address}")" in
  rustc) exec "$@" -Zsanitizer=address --cfg unpooled ;;
  address) flags="-Zsanitizer=address --cfg unpooled" library=() ;;
  thread) flags="-Zsanitizer=thread" library=(-Zbuild-std) ;;
  *) echo "scripts/sanitizers.sh knows no \`$1\`" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
place=${CARGO_TARGET_DIR:-target}/sanitizers
mkdir -p "$place/src"
cat > "$place/Cargo.toml" <<TOML
[package]
name = "kernels"
version = "0.0.0"
edition = "2024"
[workspace]
[features]
default = ["cpu"]
cpu = []
gpu = []
[dependencies]
$(grep -E '^(half|libc|macerator|rayon|tempfile) = ' Cargo.toml | sed 's/, optional = true//')
[profile.release]
opt-level = 1
debug = "line-tables-only"
[profile.release.package.kernels]
debug-assertions = true
overflow-checks = true
TOML
cp Cargo.lock "$place/"
printf '#![allow(dead_code)]\n#[path = "%s/src/kernels/mod.rs"]\npub mod kernels;\n' "$PWD" > "$place/src/lib.rs"
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="$flags" ${CARGO:-cargo} test --release --lib --manifest-path "$place/Cargo.toml" --target-dir "$place" --target "$host" "${library[@]}" -- "${@:2}"
