# Sheaf's commands. Each sets up what it needs; a second run finds it done.
#
#   make run     serve on 127.0.0.1:8000, with Python's own documentation to search
#   make test    everything that guards the code
#   make faults  what breaks it on purpose, at length (RELIABILITY.md); FAULTS="kill power" chooses, all is an hour
#   make machine snapshots, restores, aliases and all else in any order, against dictionaries; a quarter of an hour or more
#   make lint    formatter, linter and types alone
#   make clean   remove what was installed and cached; collections stay
#
# PYTHON           the Python to build .venv with, 3.11 or newer
# VENV             where it goes
# TORCH_INDEX_URL  a package index to take torch from, such as one that has builds for the CPU alone
# SHEAF_*          the server's settings; see README.md

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX_URL ?=
FAULTS ?= all

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

.PHONY: run test faults machine lint format install install-dev clean

run: install
	$(PY) scripts/build_index.py python-docs --collection python-docs
	exec $(PY) -m app

test: lint
	$(PY) -m pytest

faults: install-dev
	$(PY) tests/faults/run.py $(FAULTS) --json faults.json

machine: install-dev
	$(PY) -m pytest tests/test_safety_nets.py --hypothesis-profile=long

lint: install-dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: install-dev
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# torch goes first, by itself: asked for by another package, pip may take a build for another device.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) $(TORCH)
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find app scripts tests -name __pycache__ -prune -exec rm -rf {} +
