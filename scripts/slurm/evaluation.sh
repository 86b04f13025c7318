#!/usr/bin/env bash
# An evaluation as an array of jobs, one part each, and a last job that joins and measures them:
#
#     parts=$(sbatch --parsable --array=1-8 scripts/slurm/evaluation.sh evaluation --samples 50000 --batch 16 --prompts prompts.txt)
#     sbatch --dependency=afterok:$parts scripts/slurm/evaluation.sh evaluation
#
# A part that was stopped goes on where it was when it is submitted again, alone: PARTS=8 sbatch --array=3 …
# AFTERIMAGE is the program; MEASURES are options of `eval merge`.
#SBATCH --job-name=afterimage
#SBATCH --output=%x-%j.log
#SBATCH --cpus-per-task=1
set -euo pipefail
program=${AFTERIMAGE:-afterimage}
folder=$1; shift
export RAYON_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  exec "$program" eval --shard "$SLURM_ARRAY_TASK_ID/${PARTS:-$SLURM_ARRAY_TASK_MAX}" --output "$folder" "$@"
fi
# shellcheck disable=SC2086  # several options
exec "$program" eval merge "$folder" ${MEASURES-}
