# Two commands set up a fresh machine: `make demo` and `make test`. Both are quick when run again.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  ?= torch==2.13.0

# The pinned torch comes first: an unpinned one would be a CUDA build of several gigabytes.
NATIVE_SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.h')

.PHONY: demo test lint bench clean

demo: $(VENV)/.installed
	$(BIN)/dcaccel fit dvae digits -k 10 --seed 0 --out runs/demo --overwrite

test: $(VENV)/.installed $(VENV)/.test-tools
	@if [ -z "$$DCACCEL_DATA" ] && [ -d ../shared/data ]; then export DCACCEL_DATA="$$(cd ../shared/data && pwd)"; fi; \
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.test-tools
	$(BIN)/ruff check .

bench: $(VENV)/.installed
	$(BIN)/dcaccel bench kernels --out runs/bench

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet "$(TORCH)"
	touch $@

# Without build isolation, so that the native library is compiled against the torch that will load it.
$(VENV)/.installed: $(VENV)/.torch pyproject.toml setup.py $(NATIVE_SOURCES)
	$(BIN)/pip install --quiet "setuptools>=77" "pybind11>=2.13" "ninja>=1.11" wheel
	$(BIN)/pip install --quiet --no-build-isolation --editable .
	@cat deepclust_accel/_native_missing.txt 2>/dev/null || true
	touch $@

$(VENV)/.test-tools: $(VENV)/.installed
	$(BIN)/pip install --quiet "pytest>=8" "pytest-xdist>=3.6" "hypothesis>=6.100" "ruff>=0.9"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info deepclust_accel/_native_*.so runs
