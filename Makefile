# Sheaf's commands. Each sets up what it needs; a second run finds it done.
#
#   make run     serve on 127.0.0.1:8000, with Python's own documentation to search
#   make test    everything that guards the code
#   make quick   its tests that start no process, fit nothing and try few sequences
#   make processors  what is computed, as other processors compute it
#   make faults  what breaks it on purpose, at length (RELIABILITY.md); FAULTS="kill power" chooses, all is an hour
#   make machine snapshots, restores, aliases and all else in any order, against dictionaries; a quarter of an hour or more
#   make install-slim  what a server needs with the built-in encoder, without torch (requirements-slim.lock)
#   make container  build the image and run it, as root on Debian, without Docker (scripts/container.sh); IMAGES="slim full"
#                   builds both; .ci/run does it too, where root may
#   make audit   that what is installed is what is locked; needs no network
#   make lock    lock the dependencies anew; asks the package index
#   make lint    formatter, linter and types alone
#   make clean   remove what was installed and cached; collections stay
#
# PYTHON           the Python to build .venv with, 3.11 or newer
# VENV             where it goes
# TORCH_INDEX_URL  a package index to take torch from, such as one that has builds for the CPU alone
# TEST_WORKERS     processes that run the tests, a file in one of them; one for each core where it is not given
# SHEAF_*          the server's settings; see README.md

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX_URL ?=
FAULTS ?= all
IMAGES ?= slim
TEST_WORKERS ?= auto

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

# Tests start hundreds of processes, each of which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE
# A module's fixtures are made once. The longest files begin first (tests/conftest.py), not those with most tests.
SPREAD := --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: run test quick processors faults machine lint format audit lock container install install-slim install-dev clean

run: install
	$(PY) scripts/build_index.py python-docs --collection python-docs --precision 8bit
	exec $(PY) -m app

test: lint
	$(PY) -m pytest $(SPREAD) --durations=5

quick: install-dev
	$(PY) -m pytest $(SPREAD) -m "not slow" --durations=5

faults: install-dev
	$(PY) tests/faults/run.py $(FAULTS) --json faults.json

machine: install-dev
	$(PY) -m pytest tests/test_safety_nets.py --hypothesis-profile=long

container:
	scripts/container.sh $(IMAGES)

processors: install-dev
	$(PY) tests/processors/run.py

lint: install-dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: install-dev
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# Without the code, as where an image is built, there is nothing to prepare with.
install: $(VENV)/.installed $(if $(wildcard app/encoders/prepare.py),$(VENV)/.prepared $(VENV)/.compiled)
install-slim: $(VENV)/.installed-slim $(if $(wildcard app/encoders/prepare.py),$(VENV)/.prepared-slim $(VENV)/.compiled-slim)
# With the loops, which each process of the tests would compile for itself.
install-dev: $(VENV)/.installed-dev $(VENV)/.compiled

# torch goes first, by itself: asked for by another package, pip may take a build for another device, and its builds for
# the CPU have hashes of their own. All else is installed as it is locked, file by file; scripts/lock.sh says how.
$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) $(TORCH)
	$(PIP) install --no-deps --require-hashes --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

# No torch, and so no model but the built-in one and remote ones.
$(VENV)/.installed-slim: pyproject.toml requirements-slim.lock
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --no-deps --require-hashes --requirement requirements-slim.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

# The built-in model as OpenVINO runs it, once for every server of this installation.
$(VENV)/.prepared $(VENV)/.prepared-slim: $(VENV)/.prepared%: $(VENV)/.installed% app/encoders/openvino/builtin.py
	$(PY) -m app.encoders.prepare
	touch $@

# The loops of searches, likewise; and anew when one of them has changed. A server of another user reads both.
LOOPS := $(foreach folder,codes compute encodings lexical scoring sparse,$(wildcard app/$(folder)/*.py))
$(VENV)/.compiled $(VENV)/.compiled-slim: $(VENV)/.compiled%: $(VENV)/.installed% $(LOOPS)
	$(PY) -m app.catalogue.prepare
	chmod -R go+rX $(VENV)/share/sheaf
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	$(PIP) install --no-deps --require-hashes --requirement requirements-dev.lock
	touch $@

# What can be known without a network: nothing is missing or at odds, and what is installed is what is locked. Known
# faults of a version are told by an index alone: .venv/bin/python -m pip install pip-audit, then
# pip-audit --require-hashes --disable-pip --requirement requirements.lock
audit: install-dev
	$(PIP) check
	$(PY) scripts/audit.py

# Newer versions of what pyproject.toml leaves open; asks the index.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet uv==0.13.9
	UV=$(VENV)-lock/bin/uv scripts/lock.sh
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find app scripts tests -name __pycache__ -prune -exec rm -rf {} +
