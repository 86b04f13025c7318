#!/usr/bin/env bash
# The C library as programs use it: installed into a folder, found through pkg-config and CMake, called from C, C++ and C#.
#
#   scripts/bindings.sh            builds, installs, compiles and runs everything: seconds, once the library is built
#   scripts/bindings.sh rounds     a hundred rounds of opening, running and freeing: memory stays
#   scripts/bindings.sh memcheck   the calls under valgrind's memcheck (minutes)
#   scripts/bindings.sh helgrind   the calls under valgrind's helgrind (minutes)
#   scripts/bindings.sh asan       the calls with AddressSanitizer in the program and the library (nightly Rust; builds all anew)
#   scripts/bindings.sh size       the stripped library, for processors only and without a model
#
# CARGO, PROFILE_ARGUMENTS and CARGO_TARGET_DIR choose how it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
what=${1:-all}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export LD_LIBRARY_PATH="$place/lib" PKG_CONFIG_PATH="$place/lib/pkgconfig"

step() { printf '\n-- %s (%ss)\n' "$1" "$SECONDS"; }

build() { # features, more arguments for cargo
  local features=$1; shift
  # shellcheck disable=SC2086  # several arguments
  $cargo build --release --locked -p afterimage-c --no-default-features --features "$features" ${PROFILE_ARGUMENTS-} "$@"
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

case "$what" in
  all)
    step "library"; build cpu,bundled; install_to_place "$target/release"
    step "C: every call, and every mistake"
    compile calls bindings/c/tests/c/calls.c; "$place/calls" "$place"
    program=${AFTERIMAGE_PROGRAM:-$target/release/afterimage}
    if [ -x "$program" ]; then   # a file that the library writes is the program's, to the byte
      "$program" generate --replay "$place/calls.png" --device cpu --output "$place/its.png" >/dev/null 2>&1
      cmp "$place/calls.png" "$place/its.png"
    else echo "no program here: files are not compared"; fi
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
    build cpu,bundled; install_to_place "$target/release"
    compile rounds bindings/c/tests/c/rounds.c; "$place/rounds" 100
    ;;
  memcheck)
    build cpu,bundled; install_to_place "$target/release"
    compile calls bindings/c/tests/c/calls.c
    valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite --suppressions=bindings/c/tests/valgrind.supp "$place/calls" "$place"
    ;;
  helgrind)
    build cpu,bundled; install_to_place "$target/release"
    compile calls bindings/c/tests/c/calls.c
    valgrind --quiet --tool=helgrind --error-exitcode=9 --suppressions=bindings/c/tests/valgrind.supp "$place/calls" "$place"
    ;;
  asan)
    cargo="cargo +nightly"
    RUSTFLAGS="-Zsanitizer=address" build cpu,bundled --target x86_64-unknown-linux-gnu
    install_to_place "$target/x86_64-unknown-linux-gnu/release"
    # shellcheck disable=SC2046
    clang -std=c11 -O1 -g -fsanitize=address bindings/c/tests/c/calls.c $(pkg-config --cflags --libs afterimage) -lpthread -lm -o "$place/calls"
    "$place/calls" "$place"
    ;;
  size)
    build cpu; strip --strip-unneeded -o "$place/stripped.so" "$target/release/libafterimage_c.so"
    wc -c < "$place/stripped.so"
    ;;
  *) echo "scripts/bindings.sh knows no \`$what\`" >&2; exit 2 ;;
esac
