#!/bin/sh
# Runs the tests of the kernels and of eye behaviour on a core built with the address and undefined-behaviour sanitizers.
#
#   csrc/asan.sh [PYTHON] [pytest arguments]        JOBS processes share the tests, 2 if not said
#
# The sanitized core stands in a tree of its own (build-asan/site) with a copy of the package; whatever is installed
# stays as it is.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
python=$(command -v "${1:-$root/.venv/bin/python}")
case $python in /*) ;; *) python=$PWD/$python ;; esac
[ $# -eq 0 ] || shift
build=$root/build-asan
site=$build/site

cmake -S "$root" -B "$build" -DEMERT_SANITIZE=ON -DEMERT_CUDA=OFF -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O1 -g1" \
    -DPython_EXECUTABLE="$python" >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
rm -f "$build.log"
cmake --build "$build" --parallel 2
rm -rf "$site"
mkdir -p "$site"
cp -R "$root/emert_edge" "$site/emert_edge"
rm -f "$site"/emert_edge/_core.*.so
cmake --install "$build" --prefix "$site" >/dev/null

# -S leaves out the environment's .pth files, and with them an editable install's hook, which would come first.
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
compiler=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
preload="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"

# Not from the root, whose own emert_edge would come first.
cd "$build"
# Python itself leaks on purpose. With --capture=sys a report reaches the terminal, which pytest otherwise swallows.
LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=$site:$packages \
    "$python" -S -c '
import sys

import emert_edge._core
import pytest

assert emert_edge._core.__file__.startswith(sys.argv[1]), emert_edge._core.__file__
sys.exit(pytest.main(sys.argv[2:]))
' "$site" "$root/tests/kernels" "$root/tests/eye" -c "$root/pyproject.toml" --rootdir "$root" -q --capture=sys \
    --dist loadfile --tx "${JOBS:-2}*popen//python=$python -S" "$@"
