#!/usr/bin/env bash
# Injects every fault of tests/it/faults into the program, not only the choice that `cargo test` tries, and prints the table of
# docs/reliability.md. Takes minutes; needs Linux, a C compiler, and for one test root.
#
#     scripts/faults.sh [CARGO OPTIONS…]      for example --no-default-features --features cpu,bundled,hub,cli
#     TESTS=target/release/deps/it-… scripts/faults.sh      the integration tests as they are built
#     AFTERIMAGE_FAULTS_INTO="a film;a report" …            these commands alone
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
tests=("${TESTS:-}")
[ -n "${TESTS:-}" ] || tests=(cargo test --release --locked "$@" --test it --)
AFTERIMAGE_FAULTS=all "${tests[@]}" faults:: --include-ignored --nocapture --test-threads 2 2>&1 | tee "$log" >&2

echo "| into what | fault | injected | fired |"
echo "|---|---|---:|---:|"
sed -n 's/^.*faults | \(.*\) | \(.*\) | \([0-9]*\) | \([0-9]*\)$/\1|\2|\3|\4/p' "$log" | sort |
  awk -F'|' '{ printf "| %s | %s | %d | %d |\n", $1, $2, $3, $4; injected += $3; fired += $4 }
       END { printf "| all | | %d | %d |\n", injected, fired }'
