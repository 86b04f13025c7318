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

# plan NAME ARGUMENTS…: a calibrated plan, made once. Pictures of the calibration are none of those that are evaluated.
plan() {
  local name=$1
  shift
  if [ ! -e "$folder/$name-plan.json" ]; then "$afterimage" calibrate --device cpu --output "$folder/$name-plan.json" "$@"; fi
}

# autos NAME: what the plan picks for a range of speeds.
autos() {
  for speedup in 1.4 1.8 2.4 2.8; do echo "auto:speedup=$speedup,plan=$folder/$1-plan.json"; done
}

seeds=1000,1001,1002,1003,1004,1005,1006,1007
tail -n 8 models/scenes/train/prompts.txt >"$folder/calibration.txt"
plan scenes --steps 30 --prompts "$folder/calibration.txt" --seeds "$seeds" --cache deepcache:branch=0,forecast=linear
plan scenes-dit --model models/scenes-dit --steps 30 --seeds "$seeds" --cache dit-propagation:cut=8,every=2,forecast=linear
plan fashion-ddpm --model models/fashion-ddpm --sampler ddim --steps 50 --seeds "$seeds" --cache deepcache:branch=0,forecast=linear

evaluate scenes --steps 30 --prompts models/scenes/train/prompts.txt --judge shapes \
  --cache deepcache:interval=2,branch=0 deepcache:interval=3,branch=0 deepcache:interval=5,branch=0 \
  deepcache:interval=2,branch=0,forecast=linear deepcache:interval=3,branch=0,forecast=linear $(autos scenes) \
  encoder-propagation:every=2 encoder-propagation:every=3 encoder-propagation:every=5 encoder-propagation:every=2,forecast=linear

router=$folder/scenes-dit-router.safetensors
if [ ! -e "$router" ]; then
  "$afterimage" calibrate --model models/scenes-dit --steps 30 --class-label 1,15,26,46 --device cpu --output "$router"
fi
evaluate scenes-dit --model models/scenes-dit --steps 30 --judge shapes \
  --cache dit-propagation:every=2 dit-propagation:every=3 dit-propagation:cut=8,every=2,forecast=linear $(autos scenes-dit) \
  "l2c:router=$router,threshold=0.3" "l2c:router=$router,threshold=0.6"

evaluate fashion-ddpm --model models/fashion-ddpm --sampler ddim --steps 50 --classifier models/fashion-ddpm/classifier \
  --cache deepcache:interval=2,branch=0 deepcache:interval=3,branch=0 deepcache:interval=5,branch=0 deepcache:interval=3,branch=2 \
  deepcache:interval=2,branch=0,forecast=linear $(autos fashion-ddpm) encoder-propagation:every=2 encoder-propagation:every=3

"$afterimage" eval report "${evaluated[@]}" --output docs/quality.md
