# What a developer types. Everything runs in .venv, which is made on demand.
#   make PYTHON=python3.13 ...   uses another interpreter, 3.11 or newer, for a new .venv

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.docs-installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check format docs bench benchmark-docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 22

install: $(INSTALLED)  ## make .venv with everything that developing needs

demo: install  ## train, evaluate and predict on the embedded sample, into demo/
	$(BIN)/patchscout demo --out demo --overwrite

test: install  ## run the tests, all but the slow ones, on all cores
	$(BIN)/pytest --numprocesses auto --dist loadfile

check: install  ## formatting, lint, types, and who imports whom
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports

format: install  ## format the code and mend what ruff can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(DOCS_INSTALLED)  ## make the reference anew from the code, and build the pages into site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: install  ## time training and scoring, and count their operations
	$(BIN)/python lab/speed.py

benchmark-docs: install  ## make the tables of the documentation anew from benchmarks/results/
	$(BIN)/python -m patchscout.benchmark.document docs/results.md benchmarks/results

clean:  ## remove build output, caches and demo/; keeps .venv and runs/
	rm -rf build dist site demo .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# PyTorch first and by itself, so that nothing else decides which build of it is taken.
# adeval without its dependencies: pyproject.toml says why.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PatchScout needs Python 3.11 or newer; name one: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps adeval
	@touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	$(PIP) -e '.[docs]'
	@touch $@
