#!/usr/bin/env bash
# Tests the server's page in Chromium; installs playwright-core and axe-core into the target folder.
#
#     scripts/page.sh PROGRAM [FOLDER FOR SCREENSHOTS]      PROGRAM with the feature `serve`, as it comes
set -euo pipefail
program=$(realpath "$1")
pictures=${2:+$(realpath -m "$2")}
cd "$(dirname "$0")/.."
. scripts/node.sh
for browser in chromium google-chrome chromium-browser; do
  [ -n "${CHROMIUM:-}" ] || CHROMIUM=$(command -v "$browser" || true)
done
export CHROMIUM
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}/tools/page")
[ -d "$tools/node_modules/axe-core" ] ||
  npm install --prefix "$tools" --no-audit --no-fund --silent playwright-core@1.65.1 axe-core@4.14.1
NODE_TOOLS="$tools" node scripts/page.mjs "$program" ${pictures:+"$pictures"}
