# Everything sets itself up: each target makes the environment it needs. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv-test
DEMO := .venv-demo
PY := $(VENV)/bin/python
PIP_OPTIONS := --quiet --disable-pip-version-check
# Pinned, so that a new release (and its gigabytes of CUDA packages) does not come by itself. To test against another
# build, a CPU one say: make test TORCH="torch==2.13.0 --index-url ADDRESS".
TORCH ?= torch==2.13.0
# Processes that share the tests, whole files at a time.
JOBS ?= 2
SOURCES := emert_edge export calibration tests benchmarks examples

.PHONY: help demo test lint bench page book asan aarch64 oldest wheels bundle clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(DEMO)/ready: pyproject.toml CMakeLists.txt $(shell find csrc -type f) $(shell find emert_edge export calibration -type f -not -path '*/__pycache__/*')
	@echo "installing into $(DEMO): a download of some 100 MB and a build, two to three minutes"
	@test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install $(PIP_OPTIONS) .
	@touch $@

demo: $(DEMO)/ready ## Run the main job on a session made on the spot; nothing else is needed
	$(DEMO)/bin/emert-edge demo --out out/demo

$(VENV)/ready: pyproject.toml CMakeLists.txt $(shell find csrc -type f)
	@echo "installing into $(VENV): PyTorch among others, some minutes"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install $(PIP_OPTIONS) $(TORCH)
	$(PY) -m pip install $(PIP_OPTIONS) "scikit-build-core>=0.10" "pybind11>=2.13" cmake ninja
	$(PY) -m pip install $(PIP_OPTIONS) --no-build-isolation --editable ".[train,export,test,lint]"
	@touch $@

test: $(VENV)/ready ## Run the tests in their own environment
	$(PY) -m pytest -n $(JOBS) --dist loadfile

lint: $(VENV)/ready ## Check style, types and formatting
	$(VENV)/bin/ruff check $(SOURCES)
	$(VENV)/bin/ruff format --check $(SOURCES)
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror $$(find csrc tests/kernels -name '*.hpp' -o -name '*.cpp' -o -name '*.cu')

bench: $(VENV)/ready ## Run the benchmarks, peers beside; results also in out/bench.json
	@mkdir -p out
	$(PY) -m pip install $(PIP_OPTIONS) "ai-edge-litert>=2" # runs the peer mini-XCEPTION
	$(PY) -m pytest benchmarks -q -p no:warnings --benchmark-json=out/bench.json
	$(PY) benchmarks/limits.py >out/limits.md

page: $(VENV)/ready ## Write docs/benchmarks.md from what make bench measured
	$(PY) benchmarks/page.py out/bench.json out/limits.md docs/benchmarks.md

book: $(VENV)/ready ## Measure the charts of docs/benchmarks.md anew, on an idle machine (two minutes)
	$(PY) benchmarks/book.py docs/images/cost.png

asan: $(VENV)/ready ## Run the tests of compiled code under the address and undefined-behaviour sanitizers
	csrc/asan.sh $(PY)

aarch64: $(VENV)/ready ## Cross-build for 64-bit Arm, and run the demo and tests in an emulated Debian (root; docs/install.md)
	HERE="$(CURDIR)/$(PY)" tests/aarch64/run.sh

oldest: ## Build a wheel in a Debian 11 (glibc 2.31), and run the demo from it there (root; docs/install.md)
	tests/oldest_glibc.sh

wheels: ## Build a wheel for each Python that is here, and run the demo from it in an empty environment
	tests/wheels.sh

bundle: $(VENV)/ready ## Train, measure and export the packaged bundle anew (FER2013=FOLDER; some hours; resumes when interrupted)
	$(PY) -m emert_edge.reference.packaged --faces "$(FER2013)" $(if $(MUXSPACE),--other-faces "$(MUXSPACE)") --out emert_edge/bundles/emert-demo

clean: ## Remove environments, builds and outputs
	rm -rf $(VENV) $(DEMO) build build-* dist out
