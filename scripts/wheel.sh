#!/usr/bin/env bash
# Builds the Python wheel, installs it into a clean environment, checks its types and runs its tests there.
#
#     scripts/wheel.sh [FEATURES]      for example wgpu; AFTERIMAGE_PROGRAM names the program that pictures are compared with
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR=$(realpath "$CARGO_TARGET_DIR")
program=${AFTERIMAGE_PROGRAM:-$CARGO_TARGET_DIR/release/afterimage}
if [ -x "$program" ]; then export AFTERIMAGE_PROGRAM="$program"; fi

tools="$CARGO_TARGET_DIR/tools/maturin"
[ -x "$tools/bin/maturin" ] || { python3 -m venv "$tools" && "$tools/bin/pip" install --quiet "maturin==1.16.0"; }
clean=$(mktemp -d)
trap 'rm -rf "$clean"' EXIT
python3 -m venv "$clean/venv"
(cd bindings/python && "$tools/bin/maturin" build --release --locked --quiet ${1:+--features "$1"} --out "$clean/wheels")
ls -l "$clean"/wheels/*.whl
"$clean/venv/bin/pip" install --quiet "$clean"/wheels/*.whl pillow tqdm mypy types-tqdm

# From another folder: what is tested is what was installed.
cp -r bindings/python/tests "$clean/tests"
cp bindings/python/examples/pictures.py "$clean/example.py"
cd "$clean"
"$clean/venv/bin/mypy" --strict --config-file "$repository/bindings/python/pyproject.toml" -p afterimage
"$clean/venv/bin/python" -m unittest discover -s tests -v
"$clean/venv/bin/python" example.py "$clean"
