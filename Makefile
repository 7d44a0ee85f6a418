# `make demo` and `make test` each work alone on a machine with Python >= 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
# Bytecode, also where Python is told not to write it (PYTHONDONTWRITEBYTECODE): without it every start takes twice as
# long. Some packages hold files for other versions of Python, which do not compile.
COMPILE = $(BIN)/python -m compileall -qq -j 0 src $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# Each worker has one thread: two that share two cores with two others wait for each other.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile
LOWEST := .venv-lowest
LOWEST_TESTS := tests/data tests/vit tests/attention tests/segmentation tests/test_cli.py tests/test_api.py tests/test_config.py

.PHONY: install demo test check lint pytest pytest-touched test-lowest lock stubs clean

define MAKE_VENV
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "unip needs Python >= 3.11: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
test -x $(BIN)/python || { command -v uv >/dev/null && uv venv --quiet --python $(PYTHON) $(VENV); } || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }
test -x "$(UV)" || $(BIN)/python -m pip install --quiet uv
endef

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml Makefile
	$(MAKE_VENV)
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(COMPILE) || true
	touch $@ $(VENV)/.demo

# What the demo needs: no extras and no tools of developers; versions and hashes are those of the lock.
$(VENV)/.demo: requirements.lock pyproject.toml Makefile
	$(MAKE_VENV)
	$(UV) pip install --quiet --python $(BIN)/python --constraints requirements.lock --editable .
	$(COMPILE) || true
	touch $@

demo: $(VENV)/.demo
	$(BIN)/unip demo --out runs/demo

# Lint and types beside the tests.
test: install
	$(MAKE) --no-print-directory --jobs 2 lint pytest

pytest: install
	$(PYTEST)

# Lint, types and the tests of the rooms that were touched since the branch left main, or since `make check BASE=COMMIT`.
check: install
	$(MAKE) --no-print-directory --jobs 2 lint pytest-touched

pytest-touched: install
	tests="$$($(BIN)/python tools/touched_tests.py $(BASE))" && $(PYTEST) $$tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What editors and type checkers read: after a setting, its help, a verb or its docstring has changed.
stubs: install
	$(BIN)/python tools/write_stubs.py

# The floors of pyproject.toml: the oldest releases that it allows. Gigabytes in a folder of their own, so no part of `make test`.
test-lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(LOWEST_TESTS)

$(LOWEST)/.installed: pyproject.toml Makefile | install
	test -x $(LOWEST)/bin/python || $(UV) venv --quiet --python $(BIN)/python $(LOWEST)
	$(UV) pip compile --quiet --no-header --resolution lowest-direct --all-extras --group dev --python $(LOWEST)/bin/python -o $(LOWEST)/lowest.txt --upgrade pyproject.toml
	$(UV) pip sync --quiet --python $(LOWEST)/bin/python $(LOWEST)/lowest.txt
	$(UV) pip install --quiet --python $(LOWEST)/bin/python --no-deps --editable .
	touch $@

# The index is left out on purpose: the lock holds names, versions and hashes only.
lock:
	$(UV) pip compile --universal --generate-hashes --no-header --quiet --all-extras --group dev -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) $(LOWEST) runs dist
