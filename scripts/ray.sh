#!/usr/bin/env bash
# The wheel on Ray: a cluster of two nodes on this machine, in a Python environment of its own.
#
#   scripts/ray.sh WHEEL             checks the types, and runs the tests (minutes)
#   scripts/ray.sh WHEEL bench       64 bundled pictures by two workers of one core each, and by the program with two threads, in turn
#
# AFTERIMAGE_PROGRAM is the program that is compared with; RAY_VENV keeps the environment from one call to the next. In the end, every process of Ray on
# this machine is stopped.
set -euo pipefail
wheel=$(realpath "$1")
what=${2:-tests}
cd "$(dirname "$0")/.."
repository=$PWD
place=$(mktemp -d)
venv=${RAY_VENV:-$place/venv}
trap '"$venv/bin/ray" stop --force >/dev/null 2>&1 || true; rm -rf "$place"' EXIT
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet "ray[data,serve]==2.60.0" mypy pillow tqdm types-tqdm
"$venv/bin/pip" install --quiet --force-reinstall --no-deps "$wheel"
export EXAMPLES="$repository/bindings/python/examples" PYTHONPATH="$repository/bindings/python/examples"
cd "$place"   # what is tested is what was installed
case "$what" in
  tests)
    "$venv/bin/mypy" --strict --config-file "$repository/bindings/python/pyproject.toml" -p afterimage
    "$venv/bin/python" -m unittest discover -s "$repository/bindings/python/tests/ray" -v
    ;;
  bench) "$venv/bin/python" "$repository/bindings/python/tests/ray/bench.py" "${AFTERIMAGE_PROGRAM:?names the program to compare with}" ;;
  *) echo "scripts/ray.sh knows no \`$what\`" >&2; exit 2 ;;
esac
