#!/usr/bin/env bash
# Tests the window under Xvfb on Mesa's rasteriser: a typed prompt becomes the picture that the program makes, a run is cancelled, two are
# compared, a film plays. Needs Debian's packages xvfb, xdotool, imagemagick, libxcursor1, libxi6, libxkbcommon-x11-0.
#
#     scripts/window.sh WINDOW PROGRAM [FOLDER FOR SCREENSHOTS]
#     scripts/window.sh WINDOW PROGRAM FOLDER shared     the first part alone, the engine on the window's own device: on a rasteriser kernels are
#                                                        compiled and tuned for minutes, once; CUBECL_AUTOTUNE_LEVEL=minimal has fewer to try
set -euo pipefail
window=$(realpath "$1")
program=$(realpath "$2")
pictures=${3:+$(realpath -m "$3")}
device=${4:-cpu}
again=$device patience=120 # seconds for the first picture
[ "$device" = cpu ] || { again=wgpu patience=3600; }
models=$(realpath "$(dirname "$0")/../models")
scratch=$(mktemp -d)
cd "$scratch"
export WGPU_BACKEND=gl XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$scratch}"
unset WAYLAND_DISPLAY

Xvfb -displayfd 3 -screen 0 1180x760x24 -nolisten tcp 3>display 2>/dev/null &
server=$!
running=
finish() {
  [ -z "$running" ] || kill "$running" 2>/dev/null || true
  kill "$server" 2>/dev/null || true
  rm -rf "$scratch"
}
trap finish EXIT
until [ -s display ]; do sleep 0.1; done
DISPLAY=:$(cat display)
export DISPLAY

fail() {
  echo "window: $*; its title is \`$(xdotool getwindowname "$id" 2>/dev/null || true)\`" >&2
  exit 1
}

# Starts the window with these arguments.
start() {
  "$window" --device "$device" "$@" >log 2>&1 &
  running=$!
  for _ in $(seq 150); do
    id=$(xdotool search --onlyvisible --name Afterimage 2>/dev/null | head -1) || true
    [ -n "$id" ] && xdotool windowfocus "$id" 2>/dev/null && break
    kill -0 "$running" 2>/dev/null || { cat log >&2; exit 1; }
    sleep 0.2
  done
  sleep 1
}

# Waits, so many seconds at most, until the title has the words.
wait_for() {
  local pause=0.1 end=$((SECONDS + $1))
  [ "$1" -le 600 ] || pause=2
  while [ "$SECONDS" -lt "$end" ]; do
    title=$(xdotool getwindowname "$id" 2>/dev/null) || fail "it has gone"
    if grep -Eq "$2" <<<"$title"; then
      sleep 0.5
      return
    fi
    if grep -Eq ": (device|weights|no |the engine)" <<<"$title"; then fail "no \`$2\`"; fi
    sleep "$pause"
  done
  fail "no \`$2\` after $1 s"
}

shot() {
  import -window root "$1.png"
  [ -z "$pictures" ] || { mkdir -p "$pictures" && convert "$1.png" -quality 90 "$pictures/$1.webp"; }
}

stop() {
  kill "$running"
  wait "$running" 2>/dev/null || true
  running=
}

# The picture on the stage of a screenshot must be the file's, each of its pixels as a square.
same() {
  convert "$1.png" -crop 800x580+360+20 +repage -bordercolor '#111217' -border 1 -fuzz 1% -trim +repage stage.png
  convert "$2" -filter point -resize "$(identify -format '%wx%h!' stage.png)" expected.png
  error=$(compare -metric RMSE stage.png expected.png null: 2>&1 | sed 's/.*(\(.*\))/\1/') || true
  awk -v error="$error" 'BEGIN { exit !(error < 0.03) }' || fail "the picture on the screen differs by $error"
}

start
xdotool type --delay 25 'a red circle to the left of a blue star, on a white background'
xdotool key Return
wait_for "$patience" 'of [0-9]+ cells'
shot made
xdotool key ctrl+s
for _ in $(seq 50); do compgen -G 'afterimage-*.png' >/dev/null && break; sleep 0.1; done
saved=$(compgen -G 'afterimage-*.png') || fail "nothing was saved"
same made "$saved"
"$program" generate --device "$again" --replay "$saved" --output again.png >/dev/null
if [ "$device" = cpu ]; then
  cmp <(convert "$saved" rgb:-) <(convert again.png rgb:-) || fail "the program makes another picture"
else # two devices of one GPU may have found other kernels to be the fastest, which round otherwise
  apart=$(compare -metric PAE "$saved" again.png null: 2>&1 | sed 's/.*(\(.*\))/\1/') || true
  awk -v apart="$apart" 'BEGIN { exit !(apart ~ /^[0-9.e-]+$/ && apart <= 2 / 255) }' || fail "the program's picture differs by $apart"
fi
echo "typed: $title; on the screen as in the file, and as the program makes it"
[ "$device" = cpu ] || { sed 's/^/the window says: /' log; exit 0; }

xdotool type --delay 25 ' with a green ring'
xdotool key Return
wait_for 60 'step [0-9]+ of'
xdotool key Escape
wait_for 60 'cancelled'
shot cancelled
echo "cancelled"
stop

start --compare "$saved"
wait_for 240 'times as fast'
xdotool mousemove 760 300
shot compared
echo "compared: $title"
stop

ln -s "$models/scenes-film" scenes-film
start --model scenes-film
xdotool type --delay 25 'a red circle moves to the right'
xdotool key Return
wait_for 240 'of [0-9]+ cells'
shot film
echo "film: $title"
stop
