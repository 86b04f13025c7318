#!/usr/bin/env bash
# Makes docs/quality/MODEL.md for the models that ship: every cache rule against the plain run, against a converged one, and against fewer
# steps of the model's own sampler and of those that are good at few.
#
#   scripts/quality.sh [SAMPLES [MODEL…]]   default 64, of all; pictures are kept in target/quality, so that a stopped run goes on
#   scripts/quality.sh plans [MODEL…]       the plans that ship beside the models, anew (16 pictures each, 8 films, none of those that are
#                                           evaluated)
#
# Sets are compared with data where target/quality has them, made by `real.py` beside each model's training script:
#   python models/scenes/train/real.py 1024 target/quality/scenes.npz        and so for scenes-dit and fashion-ddpm
set -euo pipefail
cd "$(dirname "$0")/.."
folder=target/quality
mkdir -p "$folder"
afterimage=${AFTERIMAGE:-$folder/afterimage}
if [ -z "${AFTERIMAGE:-}" ]; then
  cargo build --release --bin afterimage
  cp "${CARGO_TARGET_DIR:-target}/release/afterimage" "$afterimage"
fi

# plan NAME PICTURES ARGUMENTS…: the plan that `auto` takes for a model, if it is asked for.
plan() {
  local name=$1 pictures=$2 seeds
  shift 2
  if [ -n "$models" ] && [[ " $models " != *" $name "* ]]; then return; fi
  seeds=$(seq -s , 1000 $((999 + pictures)))
  "$afterimage" calibrate --model "models/$name" --device cpu --seeds "$seeds" --output "models/$name/afterimage-plan.json" "$@"
}

models=${*:2}
if [ "${1:-}" = plans ]; then
  tail -n 16 models/scenes/train/prompts.txt >"$folder/calibration.txt"
  tail -n 8 models/scenes-film/train/prompts.txt >"$folder/calibration-film.txt"
  plan scenes 16 --steps 30 --prompts "$folder/calibration.txt" --cache deepcache:branch=0,forecast=linear
  plan scenes-dit 16 --steps 30 --cache dit-propagation:cut=8,every=2,forecast=linear
  plan fashion-ddpm 16 --sampler ddim --steps 50 --cache deepcache:branch=0,forecast=linear
  plan scenes-film 8 --prompts "$folder/calibration-film.txt" --cache deepcache:branch=0,forecast=linear
  exit
fi
samples=${1:-64} batch=8

# evaluate NAME ARGUMENTS…: one model, if it is asked for; data are used where they are.
evaluate() {
  local name=$1
  shift
  if [ -n "$models" ] && [[ " $models " != *" $name "* ]]; then return; fi
  local data=()
  if [ -e "$folder/$name.npz" ]; then data=(--data "$folder/$name.npz"); fi
  "$afterimage" eval --model "models/$name" --output "$folder/$name" --samples "$samples" --batch "$batch" --device cpu --converged \
    --lpips models/lpips-alexnet/lpips-alexnet.safetensors "${data[@]}" "$@"
  "$afterimage" eval report "$folder/$name" --output "docs/quality/$name.md"
}

# What the shipped plan picks, over the range of speeds that are worth it.
autos=()
for speedup in 1.4 1.8 2.4 2.8; do autos+=("auto:speedup=$speedup"); done

evaluate scenes --steps 30 --prompts models/scenes/train/prompts.txt --judge shapes --peers dpmsolver++ unipc --cache "${autos[@]}" \
  deepcache:interval=2,branch=0 deepcache:interval=3,branch=0 deepcache:interval=5,branch=0 \
  deepcache:interval=2,branch=0,forecast=linear deepcache:interval=3,branch=0,forecast=linear deepcache:interval=3,branch=0,forecast=taylor:2 \
  deepcache:interval=3,branch=0,forecast=chebyshev:2 dicache:threshold=0.1,branch=0 easycache:threshold=0.1,cut=end tgate:gate=10 \
  encoder-propagation:every=2 encoder-propagation:every=3 encoder-propagation:every=2,forecast=linear encoder-propagation:every=3,forecast=linear

router=$folder/scenes-dit-router.safetensors
if [ ! -e "$router" ] && [[ " ${models:-scenes-dit} " == *" scenes-dit "* ]]; then
  "$afterimage" calibrate --model models/scenes-dit --steps 30 --class-label 1,15,26,46 --device cpu --output "$router"
fi
evaluate scenes-dit --steps 30 --judge shapes --peers dpmsolver++ unipc --cache "${autos[@]}" auto:speedup=2.1 \
  dit-propagation:every=2 dit-propagation:every=3 dit-propagation:cut=8,every=2,forecast=linear dit-propagation:cut=8,every=3,forecast=linear \
  first-block:threshold=0.1 easycache:threshold=0.2,cut=end taylorseer:interval=3 taylorseer:interval=3,sites=output \
  "l2c:router=$router,threshold=0.3" "l2c:router=$router,threshold=0.6"

evaluate fashion-ddpm --sampler ddim --steps 50 --classifier models/fashion-ddpm/classifier --peers dpmsolver++ unipc --cache "${autos[@]}" \
  deepcache:interval=2,branch=0 deepcache:interval=3,branch=0 deepcache:interval=5,branch=0 deepcache:interval=3,branch=2 \
  deepcache:interval=2,branch=0,forecast=linear deepcache:interval=3,branch=0,forecast=linear dicache:threshold=0.1,branch=0 \
  encoder-propagation:every=2 encoder-propagation:every=3 encoder-propagation:every=2,forecast=linear

# A film is eight pictures and as long to make as forty. Two at a time, so that speeds are of as many rounds as there are of pictures.
samples=$(((samples + 3) / 4)) batch=2
evaluate scenes-film --prompts models/scenes-film/train/prompts.txt --peers dpmsolver++ --cache "${autos[@]}" \
  deepcache:interval=3,branch=0 deepcache:interval=3,branch=0,forecast=linear encoder-propagation:every=2
