#!/usr/bin/env bash
# Makes docs/quality.md from the models that ship: every cache rule against the plain run and against fewer steps.
#
#   scripts/quality.sh [SAMPLES]        default 128; pictures are kept in target/quality, so that a stopped run goes on
#
# Sets are compared with data where target/quality has them, made by `real.py` beside each model's training script:
#   python models/scenes/train/real.py 1024 target/quality/scenes.npz        and so for scenes-dit and fashion-ddpm
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

router=$folder/scenes-dit-router.safetensors
if [ ! -e "$router" ]; then
  "$afterimage" calibrate --model models/scenes-dit --steps 30 --class-label 1,15,26,46 --device cpu --output "$router"
fi
evaluate scenes-dit --model models/scenes-dit --steps 30 --judge shapes \
  --cache dit-propagation:every=2 dit-propagation:every=3 \
  "l2c:router=$router,threshold=0.3" "l2c:router=$router,threshold=0.6"

evaluate fashion-ddpm --model models/fashion-ddpm --sampler ddim --steps 50 --classifier models/fashion-ddpm/classifier \
  --cache deepcache:interval=2,branch=0 deepcache:interval=3,branch=0 deepcache:interval=5,branch=0 deepcache:interval=3,branch=2 \
  encoder-propagation:every=2 encoder-propagation:every=3

"$afterimage" eval report "${evaluated[@]}" --output docs/quality.md
