#!/usr/bin/env bash
# Makes docs/quality.md from the models that ship: every cache rule against the plain run and against fewer steps.
#
#   scripts/quality.sh [SAMPLES]        default 128; pictures are kept in target/quality, so that a stopped run goes on
#
# With target/quality/scenes.npz (`python models/scenes/train/real.py 1024 target/quality/scenes.npz`) the sets are compared with data.
set -euo pipefail
cd "$(dirname "$0")/.."
samples=${1:-128}
folder=target/quality
mkdir -p "$folder"
afterimage=${AFTERIMAGE:-$folder/afterimage}
if [ -z "${AFTERIMAGE:-}" ]; then
  cargo build --release --bin afterimage
  cp "${CARGO_TARGET_DIR:-target}/release/afterimage" "$afterimage"
fi

evaluated=()
# evaluate NAME ARGUMENTS…: one model; data are used where they are.
evaluate() {
  local name=$1
  shift
  local data=()
  if [ -e "$folder/$name.npz" ]; then data=(--data "$folder/$name.npz"); fi
  "$afterimage" eval --output "$folder/$name" --samples "$samples" --batch 8 --device cpu \
    --lpips models/lpips-alexnet/lpips-alexnet.safetensors "${data[@]}" "$@"
  evaluated+=("$folder/$name")
}

evaluate scenes --steps 30 --prompts models/scenes/train/prompts.txt --judge shapes \
  --cache deepcache:interval=2,branch=0 deepcache:interval=3,branch=0 deepcache:interval=5,branch=0 \
  encoder-propagation:every=2 encoder-propagation:every=3 encoder-propagation:every=5

"$afterimage" eval report "${evaluated[@]}" --output docs/quality.md
