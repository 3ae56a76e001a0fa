# One environment in .venv; every target builds what it needs. PYTHON: the interpreter to make it from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Without a GPU nothing runs the CUDA kernels, and they take minutes to compile.
EGFORMER_CUDA ?= $(if $(shell command -v nvidia-smi),auto,0)
export EGFORMER_CUDA

.PHONY: help demo test test-full bench lint tidy format clean
help:
	@echo "make demo    draw scenes, train, evaluate, predict: the whole job from nothing"
	@echo "make test    the test suite; make test-full: with all cases of the CUDA kernels"
	@echo "make bench   parameters, GMAC and latency into benchmarks/results"
	@echo "make lint    ruff, mypy, clang-format, clang-tidy"

$(READY): pyproject.toml requirements.txt setup.py CMakeLists.txt $(wildcard csrc/*.cpp csrc/*/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -r requirements.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install -q --no-build-isolation --no-deps -e .
	touch $(READY)

demo: $(READY)
	$(BIN)/python -m benchmarks.demo --out demo

# The tests of the build call cmake, which the environment brings. Triton's interpreter, on or off for a whole process,
# runs the op tests over the Triton kernels in a second one; EGFORMER_TEST_FULL=1 runs more of them.
test: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest
	TRITON_INTERPRET=1 $(BIN)/python -m pytest python_tests/ops python_tests/triton_kernels -k "triton-cpu or test_interpreted or test_traffic"

test-full: export EGFORMER_TEST_FULL = 1
test-full: test

bench: $(READY)
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.tables

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror csrc/*.cpp csrc/*/* examples/cpp/*.cpp
	$(MAKE) tidy

# clang-tidy reads how each file is compiled from CMake; CHECKS adds to .clang-tidy's.
CHECKS :=
tidy: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/tidy -G Ninja \
	    -DTORCH_DIR="$$($(BIN)/python -c 'import torch; print(torch.__path__[0])')" > /dev/null
	printf '%s\n' csrc/*.cpp csrc/cpu/*.cpp | xargs -P 2 -n 1 $(BIN)/clang-tidy -p build/tidy --quiet --checks='$(CHECKS)'

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i csrc/*.cpp csrc/*/* examples/cpp/*.cpp

clean:
	rm -rf build dist demo .pytest_cache .ruff_cache .mypy_cache *.egg-info
