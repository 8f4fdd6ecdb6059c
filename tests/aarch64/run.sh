#!/bin/bash
# The SDK on 64-bit Arm without a board: cross-built here, tested in an emulated Debian. `make aarch64`.
#
#   EMERT_AARCH64    folder of the Debian tree, kept between runs; build/aarch64 if not set
#   DEBIAN_MIRROR    where its packages come from; debootstrap's own choice if not set
#   HERE             a Python with the SDK for this machine; that of `make test` if not set
#   EMERT_TESTS      what pytest is given instead of the kernels', the streams' and the command line's tests
#
# Needs root (mount, chroot) and Debian's debootstrap, qemu-user-static and g++-aarch64-linux-gnu. The tree's Python is
# Debian's 3.11, and so must the Python be that builds (PYTHON, python3.11 if not set).
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
tree=$(realpath -m "${EMERT_AARCH64:-$root/build/aarch64}")
python=${PYTHON:-python3.11}
kept=$tree.host  # what is made on this side: wheels, the building environment, figures
guest=/srv/sdk    # where the tests lie in the tree
target=aarch64
guest_path=/venv/bin:/usr/bin:/bin
source "$root/tests/guest.sh"

need_root
need debootstrap debootstrap
need qemu-aarch64-static qemu-user-static
need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
[ "$("$python" -c 'import sys; print(*sys.version_info[:2])')" = "3 11" ] ||
    { echo "make aarch64: $python is not Python 3.11, which the emulated Debian has; set PYTHON" >&2; exit 1; }
mkdir -p "$kept"

# -- the tree -----------------------------------------------------------------------------------------------------

register() {  # the kernel hands programs for Arm to qemu; F: also those inside of the tree, which has no qemu
    local place=/proc/sys/fs/binfmt_misc
    [ -e $place/register ] || mount -t binfmt_misc binfmt_misc $place
    [ -e $place/qemu-aarch64 ] || sed 's|:/[^:]*:[A-Z]*$|:/usr/bin/qemu-aarch64-static:F|' /usr/lib/binfmt.d/qemu-aarch64.conf >$place/register
}
register
if [ ! -e "$tree/.ready" ]; then
    say "a Debian tree in $tree: some minutes"
    remove_guest
    debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,python3-venv bookworm "$tree" \
        ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$kept/debootstrap.log"
    chroot "$tree" /debootstrap/debootstrap --second-stage >>"$kept/debootstrap.log"
    chroot "$tree" python3 -m venv /venv
    touch "$tree/.ready"
fi
enter_guest "$kept"

# -- the wheel ----------------------------------------------------------------------------------------------------

say "building the wheel"
[ -x "$kept/venv/bin/python" ] || "$python" -m venv "$kept/venv"
"$kept/venv/bin/python" -m pip install -q "scikit-build-core>=0.10" "pybind11>=2.13" cmake ninja
rm -rf "$kept/wheel" "$kept/build"
(
    cd "$root"
    export _PYTHON_HOST_PLATFORM=linux-aarch64 SETUPTOOLS_EXT_SUFFIX=.cpython-311-aarch64-linux-gnu.so
    export CMAKE_TOOLCHAIN_FILE="$root/tests/aarch64/toolchain.cmake" SKBUILD_BUILD_DIR="$kept/build"
    "$kept/venv/bin/python" -m pip wheel -q --no-deps --no-build-isolation -w "$kept/wheel" \
        -C cmake.define.EMERT_CUDA=OFF .
)
say "$(cd "$kept/wheel" && ls)"

# -- what it needs, and what the tests need -------------------------------------------------------------------------

if [ ! -e "$kept/packages/.ready" ]; then
    say "fetching packages"
    # ONNX Runtime after 1.27 ends in an illegal instruction in Debian 12's qemu.
    "$kept/venv/bin/python" -m pip download -q -d "$kept/packages" --python-version 3.11 --only-binary=:all: \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux2014_aarch64 \
        "numpy>=1.26" "opencv-python-headless>=4.8,<5" "onnxruntime>=1.24,<1.28" "pydantic>=2.6" "typer>=0.12" \
        "rich>=13" "pytest>=8" "pytest-asyncio>=0.24" "hypothesis>=6.100" "psutil>=5.9"
    touch "$kept/packages/.ready"
fi
mkdir -p "$tree$guest"
say "installing"
inside python -m pip install -q --no-index --find-links /mnt/packages numpy opencv-python-headless onnxruntime pydantic \
    typer rich pytest pytest-asyncio hypothesis psutil
inside python -m pip install -q --no-index --no-deps --force-reinstall "/mnt/wheel/$(ls "$kept/wheel")"

# -- the demo, INT8 beside this machine's, the tests ----------------------------------------------------------------

say "the demo"
inside emert-edge demo --seconds 6 --out $guest/demo
rm -rf "$tree$guest/tests"
tar -C "$root" --exclude=__pycache__ -cf - tests pyproject.toml | tar -C "$tree$guest" -xf -
say "INT8 beside this machine's"
"${HERE:-$root/.venv-test/bin/python}" "$root/tests/aarch64/answers.py" "$kept/answers.npz"
inside python $guest/tests/aarch64/answers.py /mnt/answers.npz --check
say "the tests"
tests=${EMERT_TESTS:-tests/kernels tests/test_session.py tests/test_run.py tests/test_live.py tests/cli}
# shellcheck disable=SC2086
# Those of the CUDA bodies are built by a compiler, which the tree has not.
inside env EMERT_EXAMPLES=few sh -c "cd $guest && python -m pytest -q --durations=25 --ignore-glob='*/kernels/test_cuda*.py' $tests"
say "passed"
