#!/usr/bin/env bash
# Packs what a record needs on a machine without a network: the program and the tests, stripped, the scripts, the models' configurations,
# the golden cases, and the wheels of requirements.txt (with --all-wheels also what they need, PyTorch among it).
#
# usage: pack.sh ARCHIVE.tar.xz [--all-wheels] [CARGO OPTIONS, for example --features cuda]
set -euo pipefail
archive=$(realpath -m "$1"); shift
wheels=(--no-deps)
[[ ${1-} != --all-wheels ]] || { wheels=(); shift; }
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin"

built() { # the executables of a build, by name
  cargo build --release --bin afterimage --test it --message-format json "$@" |
    python3 -c 'import json, sys
for line in map(json.loads, sys.stdin):
    if line.get("executable"): print(line["target"]["name"], line["executable"])'
}
built "$@" | while read -r name file; do strip -o "$folder/bin/$name" "$file"; done
git ls-files benches/peers benches/record scripts/random_weights.py models tests/fixtures |
  grep -v '^models/\([^/]*/train\|scenes-control\)/' | tar c -T - | tar x -C "$folder"
git rev-parse --short HEAD > "$folder/COMMIT"
"${PYTHON:-python3}" -m pip download -q "${wheels[@]}" --only-binary=:all: -d "$folder/wheels" -r benches/record/requirements.txt
XZ_OPT=-T0 tar cJf "$archive" -C "$folder" .
du -h "$folder"/bin/* "$folder/wheels" "$archive"
