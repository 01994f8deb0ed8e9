SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The Python that creates the environments: `make install PYTHON=python3.12`.
PYTHON ?= python3
# The lowest-versions environment may use an older one, down to requires-python.
PYTHON_LOWEST ?= $(PYTHON)
# `make release-check` may try the wheel with another one.
PYTHON_TRIED ?= $(PYTHON)

# Factor for the number of examples of `make fuzz`: `make fuzz FUZZ=300`.
FUZZ ?= 30

VENV := .venv
VENV_LOWEST := .venv-lowest
# (on Windows, environments have Scripts instead of bin)
BIN_DIR := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(BIN_DIR)
PIP_INSTALL := -m pip --disable-pip-version-check -q install
# (a crashed worker ends the run: pytest-xdist was observed to hang after a restart)
# (files in the order of tests/conftest.py, the longest first)
PYTEST_FAST := -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
FAST := not slow and not distributed and not browser and not nightly and not gpu

.PHONY: help install train test test-all test-nightly test-ray test-gpu test-lowest fuzz lint format types docs bench release-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(VENV)/.installed ## make .venv with the pinned development set and this package, editable

train: install ## train a small demo model into runs/wimbert-demo
	$(BIN)/python examples/train_wimbert.py --demo --output_dir runs/wimbert-demo

test: install ## run the tests for before a commit, in some minutes
	$(BIN)/python $(PYTEST_FAST) -m "$(FAST)"

test-all: install ## run these, and those that are slow, over several processes or in a browser
	$(BIN)/python $(PYTEST_FAST)

test-nightly: install ## run the tests that take minutes each, or repeat a slow one in another way
	$(BIN)/python -m pytest -m nightly

test-ray: install ## run the test of examples/predict_ray.py, with Ray in .venv
	$(BIN)/python $(PIP_INSTALL) -c .ci/constraints.txt 'ray[data]'
	$(BIN)/python -m pytest -m nightly tests/test_examples.py::test_ray

test-gpu: install ## run the tests marked gpu, on a machine that has one
	$(BIN)/python -m pytest -m gpu

test-lowest: $(VENV_LOWEST)/.installed ## run the fast tests with the lowest supported versions, in .venv-lowest
	$(VENV_LOWEST)/$(BIN_DIR)/python $(PYTEST_FAST) -m "$(FAST)"

fuzz: install ## run the fuzzers of tests/fuzz on 30 times as many examples, in about half an hour
	FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/fuzz --timeout 7200

lint: install ## check style and formatting (ruff)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: install ## sort the imports and format the code (ruff)
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

types: install ## check the types (mypy)
	$(BIN)/mypy

docs: $(VENV)/.docs-installed ## build the documentation into site/, without a warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "The documentation is site/index.html"

bench: install ## run the benchmarks, but for quality.py, which needs datasets
	@for script in $(filter-out benchmarks/quality.py,$(sort $(wildcard benchmarks/*.py))); do \
	  printf '\n== %s ==\n' "$$script"; \
	  $(BIN)/python "$$script"; \
	done

release-check: $(VENV)/.release-installed ## build wheel and sdist, install each into an empty environment, and try it
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python .ci/release_check.py dist --python '$(PYTHON_TRIED)'

clean: ## remove caches and build output; .venv, .venv-lowest and runs stay
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov
	find . \( -name '.venv*' -o -name .git -o -name runs \) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# Stamp files: an environment is updated when its requirements have changed.
$(VENV)/.installed: pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "the pinned development set needs Python 3.11 or newer: make install PYTHON=python3.11")'
	@echo "Installing the pinned development set into $(VENV): some minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) -c .ci/constraints.txt -e '.[dev]'
	@touch $@

$(VENV_LOWEST)/.installed: pyproject.toml .ci/lowest.txt
	@echo "Installing the lowest supported versions into $(VENV_LOWEST): some minutes and, with a CUDA build of torch, several GB."
	$(PYTHON_LOWEST) -m venv $(VENV_LOWEST)
	$(VENV_LOWEST)/$(BIN_DIR)/python $(PIP_INSTALL) -c .ci/lowest.txt -e '.[dev]'
	@touch $@

$(VENV)/.docs-installed: $(VENV)/.installed
	$(BIN)/python $(PIP_INSTALL) -c .ci/constraints.txt -e '.[dev,docs]'
	@touch $@

$(VENV)/.release-installed: $(VENV)/.installed
	$(BIN)/python $(PIP_INSTALL) -c .ci/constraints.txt build twine
	@touch $@
