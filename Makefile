# `make demo` and `make test` each work alone on a machine with Python >= 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
# Bytecode, also where Python is told not to write it (PYTHONDONTWRITEBYTECODE): without it every start takes twice as
# long. Some packages hold files for other versions of Python, which do not compile.
COMPILE = $(BIN)/python -m compileall -qq -j 0 src $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

.PHONY: install demo test lint lock stubs clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "unip needs Python >= 3.11: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || { command -v uv >/dev/null && uv venv --quiet --python $(PYTHON) $(VENV); } || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }
	test -x "$(UV)" || $(BIN)/python -m pip install --quiet uv
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(COMPILE) || true
	touch $@

demo: install
	$(BIN)/unip demo --out runs/demo

test: install lint
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What editors and type checkers read: after a setting, its help, a verb or its docstring has changed.
stubs: install
	$(BIN)/python tools/write_stubs.py

# The index is left out on purpose: the lock holds names, versions and hashes only.
lock:
	$(UV) pip compile --universal --generate-hashes --no-header --quiet --all-extras --group dev -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) runs dist
