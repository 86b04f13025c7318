#!/usr/bin/env bash
# Fuzzes everything that reads what somebody else has written, and says what was reached.
#
#   cargo install cargo-fuzz --locked && rustup toolchain install nightly
#   scripts/fuzz.sh [SECONDS [TARGET…]]     default 1200 seconds each, all targets; JOBS of them at once (default 2)
#   scripts/fuzz.sh table [TARGET…]         what the last run came to, or has come to so far
#   scripts/fuzz.sh lines [TARGET…]         lines of each parser's files that seeds and findings reach; needs LLVM's tools of
#                                           the compiler's version (LLVM=-22 for llvm-cov-22), and the corpus of a run before
#   scripts/fuzz.sh blind [SECONDS [TARGET…]]   without a nightly compiler: seeds changed at random, nothing looked at
#
# No sanitizer: the crate is safe Rust, and what breaks the memory limit is found by a counting allocator. What a run collects lies
# in target/fuzz: corpus/TARGET, artifacts/TARGET (what broke a parser: goes to tests/fixtures/regressions/TARGET once mended), logs.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}/fuzz"
mkdir -p "$target/logs"
# Most parsers are given files: in memory, ten times as many a second.
if [ -d /dev/shm ] && [ -w /dev/shm ]; then export TMPDIR="${TMPDIR:-/dev/shm}"; fi
host=$(rustc -vV | sed -n 's/^host: //p')
names() { if [ $# -gt 0 ]; then printf '%s\n' "$@"; else ls fuzz/seeds; fi; }

# One target for so many seconds. After a finding it goes on with what is left of them.
one() {
  local name=$1 seconds=$2 begin=$SECONDS left round=0
  local corpus="$target/corpus/$name" artifacts="$target/artifacts/$name/"
  mkdir -p "$corpus" "$artifacts"
  rm -f "$target/logs/$name".*
  while left=$((seconds - SECONDS + begin)); [ "$left" -gt 1 ]; do
    round=$((round + 1))
    TIMEFORMAT='cpu %U %S'
    { time "$target/$host/release/$name" "$corpus" "fuzz/seeds/$name" "-artifact_prefix=$artifacts" \
      "-dict=fuzz/dictionaries/$name.dict" -max_total_time="$left" -timeout=30 -rss_limit_mb=3072 -max_len=65536 \
      -print_final_stats=1 -verbosity=1 </dev/null >"$target/logs/$name.$round" 2>&1; } 2>"$target/logs/$name.$round.cpu" || true
  done
}

# What the logs of a target say.
summary() {
  local name=$1
  awk -v name="$name" -v seeds="$(ls "fuzz/seeds/$name" | wc -l)" -v found="$(ls "$target/artifacts/$name" 2>/dev/null | wc -l)" \
    -v corpus="$(ls "$target/corpus/$name" 2>/dev/null | wc -l)" '
    /^cpu / { cpu += $2 + $3 }
    /^INFO: Loaded 1 modules/ { all = substr($5, 2) }
    / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:" && $(i+1) > edges) edges = $(i+1); if ($i == "ft:" && $(i+1) > features) features = $(i+1) } }
    FNR == 1 { runs += last; last = 0 }
    /^#[0-9]+/ { last = substr($1, 2) }
    /^stat::number_of_executed_units:/ { last = $2 }
    END { runs += last
           printf "| %s | %d | %d | %.0f | %d of %d | %d | %d | %d |\n", name, seeds, runs, cpu, edges, all, features, corpus, found }
  ' "$target/logs/$name".*
}

table() {
  printf '| target | seeds | executions | CPU seconds | edges | features | corpus | findings |\n|---|---:|---:|---:|---:|---:|---:|---:|\n'
  for name in "$@"; do
    if [ -e "$target/logs/$name.1" ]; then summary "$name"; fi
  done
}

lines() {
  local tests profiles="$target/profiles"
  rm -rf "$profiles" && mkdir -p "$profiles"
  # Only this crate is instrumented: its dependencies are the ones the tests have anyway.
  printf '#!/bin/sh\nexec "$@" -C instrument-coverage\n' >"$target/instrumented" && chmod +x "$target/instrumented"
  tests=$(RUSTC_WORKSPACE_WRAPPER=$(realpath "$target/instrumented") LLVM_PROFILE_FILE="$profiles/build-%p" \
    cargo test --release --locked ${FEATURES:-} --test it --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\/it-[^"]*\)".*/\1/p')
  for name in "$@"; do
    AFTERIMAGE_CORPUS="$(realpath "$target/corpus/$name" 2>/dev/null || true)" AFTERIMAGE_PARSER="$name" \
      LLVM_PROFILE_FILE="$profiles/$name.raw" "$tests" --ignored --exact regressions::what_the_fuzzer_collected >/dev/null
    "llvm-profdata${LLVM:-}" merge -sparse "$profiles/$name.raw" -o "$profiles/$name.data"
    printf '\n== %s\n' "$name"
    # shellcheck disable=SC2046
    "llvm-cov${LLVM:-}" report "$tests" -instr-profile="$profiles/$name.data" $(files "$name") \
      | awk '/\.rs|^TOTAL/ { printf "%-40s %s of %s lines, %s\n", $1, $8 - $9, $8, $10 }'
  done
}

# The files that are a target's parser.
files() {
  case $1 in
    safetensors) echo src/weights/source/{mod,safetensors}.rs ;;
    shards) echo src/weights/source/{shards,safetensors}.rs ;;
    torch) ls src/weights/source/*.rs | grep -v -e safetensors -e shards ;;
    adapters) echo src/weights/adapt/*.rs ;;
    embeddings) echo src/text/embedding.rs ;;
    checkpoints) echo src/catalog/checkpoint*.rs src/weights/{original,dit}.rs ;;
    configs) echo src/catalog/index.rs src/models/json.rs src/models/{unet,vae,clip,dit}/*config.rs src/pipeline/*config.rs src/pipeline/encoders.rs ;;
    controls) echo src/models/control/config.rs ;;
    schedulers) echo src/samplers/{config,json,kind}.rs src/noise/*.rs ;;
    tokenizers) ls src/text/*.rs | grep -v -e embedding -e mod.rs ;;
    rules) echo src/cache/{parse,options,refresh,keys,plan,course}.rs ;;
    routers) echo src/cache/{router,branches}.rs ;;
    pictures) echo src/image_io/{read,mask}.rs ;;
    png_text) echo src/image_io/mod.rs ;;
    manifests) echo src/evaluation/{store,study,joined}.rs ;;
    data) echo src/evaluation/data.rs ;;
  esac
}

if [ "${1:-}" = table ]; then
  shift
  mapfile -t chosen < <(names "$@")
  table "${chosen[@]}"
  exit
fi
if [ "${1:-}" = lines ]; then
  shift
  mapfile -t chosen < <(names "$@")
  lines "${chosen[@]}"
  exit
fi
if [ "${1:-}" = blind ]; then
  seconds=${2:-1200}
  shift $(($# < 2 ? $# : 2))
  mapfile -t chosen < <(names "$@")
  mkdir -p "$target/blind"
  tests=$(cargo test --release --locked ${FEATURES:-} --test it --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\/it-[^"]*\)".*/\1/p')
  printf '%s\n' "${chosen[@]}" | AFTERIMAGE_SECONDS=$seconds AFTERIMAGE_ARTIFACTS=$(realpath "$target/blind") AFTERIMAGE_RANDOM=${RANDOM_START:-1} \
    xargs -P "${JOBS:-2}" -I '{}' env AFTERIMAGE_PARSER='{}' "$tests" --ignored --exact regressions::seeds_changed_at_random --nocapture 2>&1 \
    | grep -E '^[a-z_]+: [0-9]+ runs|overflowed'
  exit
fi
seconds=${1:-1200}
shift || true
mapfile -t chosen < <(names "$@")
cargo "+${TOOLCHAIN:-nightly}" fuzz build -s none --target-dir "$target"
export -f one
export target host
printf '%s\n' "${chosen[@]}" | xargs -P "${JOBS:-2}" -I '{}' bash -c "$(declare -f one); one {} $seconds"
table "${chosen[@]}"
