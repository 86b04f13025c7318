#!/usr/bin/env bash
# The C library as programs use it: installed into a folder, found through pkg-config and CMake, called from C, C++ and C#.
#
#   scripts/bindings.sh            builds, installs, compiles and runs everything: seconds, once the library is built
#   scripts/bindings.sh rounds     a hundred rounds of opening, running and freeing: memory stays
#   scripts/bindings.sh memcheck   the calls under valgrind's memcheck (minutes)
#   scripts/bindings.sh helgrind   the calls under valgrind's helgrind (minutes)
#   scripts/bindings.sh asan       the calls, and rounds, with AddressSanitizer in the program and the library (clang)
#   scripts/bindings.sh tsan       the calls with ThreadSanitizer in both and in Rust's own library (builds all anew; `rustup component add rust-src`)
#   scripts/bindings.sh size       the stripped library, for processors only and without a model
#
# CARGO, FEATURES (cpu,bundled) and CARGO_TARGET_DIR choose how it is built; RUSTUP_TOOLCHAIN by which release: sanitizers take the pinned one, and nightly.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
what=${1:-all}
features=${FEATURES:-cpu,bundled}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export LD_LIBRARY_PATH="$place/lib" PKG_CONFIG_PATH="$place/lib/pkgconfig"

step() { printf '\n-- %s (%ss)\n' "$1" "$SECONDS"; }

build() { # features, more arguments for cargo
  local features=$1; shift
  $cargo build --release --locked -p afterimage-c --no-default-features --features "$features" "$@"
}

install_to_place() { # the folder with the libraries
  mkdir -p "$place/include" "$place/lib/pkgconfig" "$place/lib/cmake/Afterimage"
  cp bindings/c/include/afterimage.h "$place/include/"
  cp "$1/libafterimage_c.so" "$1/libafterimage_c.a" "$place/lib/"
  cp bindings/c/cmake/AfterimageConfig.cmake "$place/lib/cmake/Afterimage/"
  local version
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' bindings/c/Cargo.toml | head -1)
  sed -e "s|@PREFIX@|$place|; s|@VERSION@|$version|" bindings/c/afterimage.pc.in > "$place/lib/pkgconfig/afterimage.pc"
}

warnings=(-Wall -Wextra -Wpedantic -Werror)

compile() { # name, source, more arguments
  local name=$1 source=$2; shift 2
  # shellcheck disable=SC2046  # several flags
  cc -std=c11 -O1 -g "${warnings[@]}" "$source" $(pkg-config --cflags --libs afterimage) -lpthread -lm "$@" -o "$place/$name"
}

under_valgrind() { # arguments for valgrind. Linked statically: the shared library has no names that a report could tell
  local name
  for name in calls threads; do
    cc -std=c11 -O1 -g "${warnings[@]}" -I"$place/include" "bindings/c/tests/c/$name.c" "$place/lib/libafterimage_c.a" -lpthread -ldl -lm -o "$place/$name"
    valgrind --quiet "$@" --error-exitcode=9 --suppressions=bindings/c/tests/valgrind.supp "$place/$name" "$place"
  done
}

# The C programs and the library in this folder with a sanitizer of rustc, and with rustc's runtime of it.
sanitized() { # sanitizer, its runtime, folder
  local sanitizer=$1 runtime=$2 library=$3 host archive name
  host=$(rustc -vV | sed -n 's/^host: //p')
  archive=$(echo "$(rustc --print sysroot)/lib/rustlib/$host/lib"/librustc*_rt."$runtime".a)
  for name in calls threads rounds; do
    clang -std=c11 -O1 -g "${warnings[@]}" -fsanitize="$sanitizer" -fno-sanitize-link-runtime -Ibindings/c/include "bindings/c/tests/c/$name.c" \
      "$library/libafterimage_c.a" -Wl,--whole-archive "$archive" -Wl,--no-whole-archive -lpthread -ldl -lm -lrt -o "$place/$name"
  done
}

case "$what" in
  all)
    step "library"; build "$features"; install_to_place "$target/release"
    step "C: every call, and every mistake"
    compile calls bindings/c/tests/c/calls.c; "$place/calls" "$place"
    program=${AFTERIMAGE_PROGRAM:-$target/release/afterimage}
    if [ -x "$program" ]; then   # a file that the library writes is the program's, to the byte
      "$program" generate --replay "$place/calls.png" --device cpu --output "$place/its.png" >/dev/null 2>&1
      cmp "$place/calls.png" "$place/its.png"
    else echo "no program here: files are not compared"; fi
    step "C: several threads"
    compile threads bindings/c/tests/c/threads.c; "$place/threads"
    step "C: a program of the first release"
    cc -std=c11 -O1 "${warnings[@]}" bindings/c/tests/c/old.c -L"$place/lib" -lafterimage_c -o "$place/old"; "$place/old"
    step "C: the example"
    compile picture bindings/c/examples/picture.c; "$place/picture" "a green ring" "$place/ring.ppm"; test -s "$place/ring.ppm"
    step "C: ten rounds, linked statically"
    cc -std=c11 -O1 "${warnings[@]}" -I"$place/include" bindings/c/tests/c/rounds.c "$place/lib/libafterimage_c.a" -lpthread -ldl -lm -o "$place/rounds"
    "$place/rounds" 10
    step "C++: the example"
    # shellcheck disable=SC2046
    c++ -std=c++17 -O1 "${warnings[@]}" bindings/c/examples/worker.cpp $(pkg-config --cflags --libs afterimage) -lpthread -o "$place/worker"
    "$place/worker"
    if command -v cmake >/dev/null; then
      step "CMake finds it"
      cat > "$place/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.16)
project(picture C)
find_package(Afterimage REQUIRED)
add_executable(picture ${SOURCE})
target_link_libraries(picture Afterimage::Afterimage)
CMAKE
      cmake -S "$place" -B "$place/build" -DSOURCE="$PWD/bindings/c/examples/picture.c" -DAfterimage_DIR="$place/lib/cmake/Afterimage" >/dev/null
      cmake --build "$place/build" >/dev/null; test -x "$place/build/picture"
    else echo "no cmake here: not checked"; fi
    if command -v mcs >/dev/null; then
      step "C#: the example, under mono"
      sed "s/\bnuint\b/System.UIntPtr/g" bindings/c/csharp/Native.g.cs > "$place/Native.cs"   # mono reads C# 7, which calls it so
      mcs -unsafe -nologo -out:"$place/example.exe" "$place/Native.cs" bindings/c/csharp/Example.cs
      (cd "$place" && mono example.exe)
    else echo "no mono here: C# is not checked"; fi
    if command -v clang >/dev/null; then
      step "Swift's module map, read by clang; nothing else of Swift is checked"
      printf '@import CAfterimage;\nint main(void) { return afterimage_abi_version() != AFTERIMAGE_ABI_VERSION; }\n' > "$place/module.m"
      clang -fmodules -fmodules-cache-path="$place/cache" -fmodule-map-file=bindings/c/swift/module.modulemap -fsyntax-only "$place/module.m"
    else echo "no clang here: the module map is not checked"; fi
    ;;
  rounds)
    build "$features"; install_to_place "$target/release"
    compile rounds bindings/c/tests/c/rounds.c; "$place/rounds" 100
    ;;
  memcheck)
    build "$features"; install_to_place "$target/release"
    under_valgrind --leak-check=full --errors-for-leak-kinds=definite
    ;;
  helgrind)
    build "$features"; install_to_place "$target/release"
    under_valgrind --tool=helgrind
    ;;
  asan)
    # The crates of the workspace, at a level that leaves most accesses where they are written; see scripts/sanitizers.sh.
    RUSTC_WORKSPACE_WRAPPER="$PWD/scripts/sanitizers.sh" build "$features" --config profile.release.package.afterimage.opt-level=1
    sanitized address asan "$target/release"
    "$place/calls" "$place"; "$place/threads"
    # For leaks; what the process holds, at which 1 is the answer, is the sanitizer's own.
    ASAN_OPTIONS=exitcode=9 "$place/rounds" 20 || [ $? -eq 1 ]
    ;;
  tsan)
    host=$(rustc -vV | sed -n 's/^host: //p')
    # Everything: whoever does not see how threads wait for each other sees races.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread" CARGO_PROFILE_RELEASE_OPT_LEVEL=1 build "$features" --target "$host" -Zbuild-std
    sanitized thread tsan "$target/$host/release"
    "$place/calls" "$place"; "$place/threads"
    ;;
  size)
    build cpu; strip --strip-unneeded -o "$place/stripped.so" "$target/release/libafterimage_c.so"
    wc -c < "$place/stripped.so"
    ;;
  *) echo "scripts/bindings.sh knows no \`$what\`" >&2; exit 2 ;;
esac
