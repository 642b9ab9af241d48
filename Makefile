# Two commands set up a fresh machine: `make demo` and `make test`. Both are quick when run again.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  ?= torch==2.13.0
# On Linux PyPI's torch is a CUDA build of gigabytes; TORCH_INDEX=<url of PyTorch's CPU wheels> avoids it.
TORCH_INDEX ?=
PYTEST_ARGS ?= -n 2

NATIVE_SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.h')

.PHONY: demo test lint bench chaos fuzz sanitize cuda-check clean

demo: $(VENV)/.installed
	$(BIN)/dcaccel fit dvae digits -k 10 --seed 0 --out runs/demo --overwrite

# A convenience: a data folder that lies beside the checkout is used.
test: $(VENV)/.installed
	@if [ -z "$$DCACCEL_DATA" ] && [ -d ../shared/data ]; then export DCACCEL_DATA="$$(cd ../shared/data && pwd)"; fi; \
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .

bench: $(VENV)/.installed
	$(BIN)/dcaccel bench kernels --out runs/bench

# A hundred fits, killed and resumed until they are done; some minutes.
chaos: $(VENV)/.installed
	$(BIN)/python bench/chaos.py --runs 100 --seed 0 --out bench/results/chaos.json

# Thousands of damaged files, configs, plugin metadata and command lines; minutes.
fuzz: $(VENV)/.installed
	$(BIN)/python tests/cli/fuzz.py --inputs 6000 --out bench/results/fuzz.json

# The CPU operators under the address, undefined-behaviour and thread sanitizers; minutes, most of them for the compiler.
sanitize: $(VENV)/.installed
	$(BIN)/python tests/sanitize/sanitize.py

# Needs nvcc and gigabytes, but no GPU: the CUDA library built against a CUDA build of torch, in an environment of its own.
CUDA_VENV  := .venv-cuda
CUDA_TORCH ?= torch==2.13.0
cuda-check:
	test -d $(CUDA_VENV) || $(PYTHON) -m venv $(CUDA_VENV)
	$(CUDA_VENV)/bin/pip install --quiet "$(CUDA_TORCH)" "setuptools>=77" "pybind11>=2.13" "ninja>=1.11" wheel
	DCACCEL_CUDA=1 $(CUDA_VENV)/bin/pip install --quiet --no-build-isolation --editable ".[dev]"
	$(CUDA_VENV)/bin/python -m pytest -n 0 tests/cuda/test_cuda_library.py
	$(CUDA_VENV)/bin/dcaccel doctor

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") "$(TORCH)"
	touch $@

# Without build isolation, so that the native library is compiled against the torch that will load it.
$(VENV)/.installed: $(VENV)/.torch pyproject.toml setup.py $(NATIVE_SOURCES)
	$(BIN)/pip install --quiet "setuptools>=77" "pybind11>=2.13" "ninja>=1.11" wheel
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[dev]"
	@cat deepclust_accel/_native_missing.txt 2>/dev/null || true
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info deepclust_accel/_native_* runs
