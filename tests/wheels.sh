#!/bin/bash
# A wheel for each Python that is here, installed into an empty environment with no compiler in sight, where `doctor` and
# the demo run: `make wheels`. PYTHONS names the interpreters; those that are not there are told and left out.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=()
for python in ${PYTHONS:-python3.10 python3.11 python3.12 python3.13}; do
    if ! path=$(command -v "$python") || ! "$path" -c "" 2>/dev/null; then
        echo "wheels: $python is not here"
        continue
    fi
    version=$("$path" -c 'import platform; print(platform.python_version())')
    echo "wheels: Python $version"
    "$path" -m venv "$work/build-$version"
    "$work/build-$version/bin/python" -m pip wheel -q --disable-pip-version-check --no-deps -w "$work/$version" "$root"
    "$path" -m venv "$work/empty-$version"
    (
        cd "$work"
        export PATH="$work/empty-$version/bin"  # no compiler, no cmake, nothing of the system
        python -m pip install -q --disable-pip-version-check --only-binary=:all: "$work/$version"/*.whl
        emert-edge doctor --json >doctor.json
        emert-edge demo --seconds 6 --out "demo-$version" >demo.txt
    )
    echo "wheels: $(basename "$work/$version"/*.whl): $(grep "emotion    read" "$work/demo.txt")"
    passed+=("$version")
    rm -rf "$work/build-$version" "$work/empty-$version"
done
[ ${#passed[@]} -gt 0 ] || { echo "wheels: none of the Pythons is here" >&2; exit 1; }
echo "wheels: passed with Python ${passed[*]}"
