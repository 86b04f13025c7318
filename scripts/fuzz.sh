#!/usr/bin/env bash
# Fuzzes everything that reads what somebody else has written, and says what was reached.
#
#   cargo install cargo-fuzz --locked && rustup toolchain install nightly
#   scripts/fuzz.sh [SECONDS [TARGET…]]     until each target (default all) has had so many seconds of processor (default 1200), those
#                                           of earlier calls among them; JOBS of them at once (default 2), SLICE seconds of one after
#                                           the other (default 60), so that all have had alike whenever it is stopped; BUILD=no goes
#                                           on with the programs as they are, whatever has changed since
#   scripts/fuzz.sh table [TARGET…]         what all calls together came to, or have come to so far
#   scripts/fuzz.sh lines [TARGET…]         lines of each parser's files that seeds and findings reach; needs LLVM's tools of
#                                           the compiler's version (LLVM=-22 for llvm-cov-22), and the corpus of a run before
#   scripts/fuzz.sh blind [SECONDS [TARGET…]]   without a nightly compiler: seeds changed at random, nothing looked at
#
# No sanitizer: the crate is safe Rust, and what breaks the memory limit is found by a counting allocator. What a run collects lies
# in target/fuzz: corpus/TARGET, artifacts/TARGET (what broke a parser: goes to tests/fixtures/regressions/TARGET once mended), logs;
# without that folder it begins anew.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}/fuzz"
mkdir -p "$target/logs"
# Most parsers are given files: in memory, ten times as many a second.
if [ -d /dev/shm ] && [ -w /dev/shm ]; then export TMPDIR="${TMPDIR:-/dev/shm}"; fi
host=$(rustc -vV | sed -n 's/^host: //p')
names() { if [ $# -gt 0 ]; then printf '%s\n' "$@"; else ls fuzz/seeds; fi; }

# One target until it has had so many seconds of processor. After a finding it goes on. Only rounds that came to their end count.
one() {
  local name=$1 seconds=$2 left round
  local corpus="$target/corpus/$name" artifacts="$target/artifacts/$name/" times="$target/logs/$name.cpu"
  mkdir -p "$corpus" "$artifacts"
  touch "$times"
  while left=$(awk -v seconds="$seconds" '{ seconds -= $1 + $2 } END { printf "%.0f", seconds }' "$times"); [ "$left" -gt 0 ]; do
    round=$(($(wc -l <"$times") + 1))
    TIMEFORMAT='%U %S'
    { time "$target/$host/release/$name" "$corpus" "fuzz/seeds/$name" "-artifact_prefix=$artifacts" \
      "-dict=fuzz/dictionaries/$name.dict" -max_total_time="$((left < 5 ? 5 : left))" -timeout=60 -rss_limit_mb=3072 -max_len=65536 \
      -print_final_stats=1 -verbosity=1 </dev/null >"$target/logs/$name.$round" 2>&1; } 2>>"$times" || true
  done
}

# What the logs of a target say.
summary() {
  local name=$1
  # shellcheck disable=SC2046
  awk -v name="$name" -v seeds="$(ls "fuzz/seeds/$name" | wc -l)" -v found="$(ls "$target/artifacts/$name" 2>/dev/null | wc -l)" \
    -v corpus="$(ls "$target/corpus/$name" 2>/dev/null | wc -l)" '
    FILENAME ~ /\.cpu$/ { cpu += $1 + $2; next }
    /^INFO: Loaded 1 modules/ { all = substr($5, 2) }
    / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:" && $(i+1) > edges) edges = $(i+1); if ($i == "ft:" && $(i+1) > features) features = $(i+1) } }
    FNR == 1 { runs += last; last = 0 }
    /^#[0-9]+/ { last = substr($1, 2) }
    /^stat::number_of_executed_units:/ { last = $2 }
    END { runs += last
           printf "| %s | %d | %d | %.0f | %d of %d | %d | %d | %d |\n", name, seeds, runs, cpu, edges, all, features, corpus, found }
  ' "$target/logs/$name.cpu" $(seq -f "$target/logs/$name.%.0f" "$(wc -l <"$target/logs/$name.cpu")")
}

table() {
  printf '| target | seeds | executions | CPU seconds | edges | features | corpus | findings |\n|---|---:|---:|---:|---:|---:|---:|---:|\n'
  for name in "$@"; do
    if [ -s "$target/logs/$name.cpu" ]; then summary "$name"; fi
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
    gguf) echo src/weights/source/gguf/*.rs ;;
    torch) echo src/weights/source/{mod,place,stored}.rs src/weights/source/torch/*.rs ;;
    adapters) echo src/weights/adapt/*.rs ;;
    embeddings) echo src/text/embedding.rs ;;
    checkpoints) echo src/catalog/{checkpoint,fitting,claims,said,cards}.rs src/weights/original/*.rs src/weights/{dit,adm}.rs ;;
    configs) echo src/catalog/index.rs src/models/json.rs src/models/{unet,unet3d,spatio_temporal,vae,clip,dit}/*config.rs src/pipeline/config/*.rs ;;
    controls) echo src/models/control/config.rs ;;
    schedulers) echo src/samplers/{config,build,kind,repairs}.rs src/noise/*.rs ;;
    tokenizers) echo src/text/{clip_tokenizer,t5_tokenizer,sentence_piece,tokenizer_files}.rs ;;
    rules) echo src/cache/{parse,options,refresh,keys,rule,plan,course}.rs ;;
    recipes) echo src/pipeline/recipe/{json,kept,files,words,request}.rs src/image_io/{settings,whole,texts,exif}.rs ;;
    routers) echo src/cache/{router,branches}.rs ;;
    pictures) echo src/image_io/{read,mask,whole,tiff,dropped}.rs ;;
    png_text) echo src/image_io/png_file.rs ;;
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
if [ "${BUILD:-yes}" = yes ]; then cargo "+${TOOLCHAIN:-nightly}" fuzz build -s none --target-dir "$target"; fi
export target host
slice=${SLICE:-60}
for goal in $(seq "$slice" "$slice" "$((seconds - 1))") "$seconds"; do
  printf '%s\n' "${chosen[@]}" | xargs -P "${JOBS:-2}" -I '{}' bash -c "$(declare -f one); one {} $goal"
done
table "${chosen[@]}"
