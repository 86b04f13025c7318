#!/usr/bin/env bash
# Runs real clients against the server on loopback: openai of PyPI and of npm, webuiapi, and SillyTavern's own routes. What they need is
# installed into the target folder.
#
#     scripts/clients.sh PROGRAM [CLIENT…]      PROGRAM with the feature `serve`, as it comes; clients: openai.py openai.mjs webui sillytavern
set -euo pipefail
program=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- openai.py openai.mjs webui sillytavern
cd "$(dirname "$0")/.."
. scripts/node.sh
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}/tools/clients")
mkdir -p "$tools"

wants() { case " $* " in *" $client "*) return 0 ;; *) return 1 ;; esac; }
for client in "$@"; do
  if wants openai.py webui && [ ! -d "$tools/venv" ]; then
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet openai==3.57.0 webuiapi==0.9.17
  fi
  if wants openai.mjs && [ ! -d "$tools/node_modules/openai" ]; then
    npm install --prefix "$tools" --no-audit --no-fund --silent openai@6.49.0
  fi
  if wants sillytavern && [ ! -d "$tools/node_modules/sillytavern" ]; then
    npm install --prefix "$tools" --no-audit --no-fund --silent --ignore-scripts --omit=optional sillytavern@1.19.0
  fi
done

port=${PORT:-7874}
token="open-sesame"
AFTERIMAGE_TOKEN=$token "$program" serve --port "$port" --models models --controls models >"$tools/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true' EXIT
for _ in $(seq 200); do curl -sf "http://127.0.0.1:$port/healthz" >/dev/null && break; sleep 0.05; done

export NODE_TOOLS=$tools
failed=0
for client in "$@"; do
  printf -- '-- %s\n' "$client"
  case $client in
    openai.py) "$tools/venv/bin/python" scripts/clients/openai_client.py "http://127.0.0.1:$port" "$token" ;;
    openai.mjs) node scripts/clients/openai_client.mjs "http://127.0.0.1:$port" "$token" ;;
    webui) "$tools/venv/bin/python" scripts/clients/webui_client.py 127.0.0.1 "$port" "$token" scenes-control ;;
    sillytavern) node scripts/clients/sillytavern.mjs "http://127.0.0.1:$port" "$token" ;;
    *) echo "no client \`$client\`" >&2; exit 2 ;;
  esac || failed=1
done
[ "$failed" = 0 ] || { echo "see $tools/server.log" >&2; exit 1; }
