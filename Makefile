# Two commands: `make run` compares every method on real data, `make test` runs every test.
# Both set up .venv first and are quick the second time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUITE ?= digits
BENCH ?=
STEP ?= resnet20 banner8
KERNELS := $(wildcard qbench/kernels/cpu/*.cpp qbench/kernels/cpu/*.h)

.PHONY: run test lint format bench profile reference check-methods wheel clean

run: $(VENV)/.run-ready
	$(BIN)/qbench run $(SUITE)

test: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not benchmark_suite"

# Speed and memory, alone on the machine: paired ratios and one table at the end. For example:
# make bench BENCH=--assert-targets, make bench BENCH="-k resnet20 --bench-rounds=5"
bench: $(VENV)/.bench-ready
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest tests/benchmarks -m benchmark_suite -s $(BENCH)

# Where the time of one training step goes: make profile STEP="resnet18 wageubn"
profile: $(VENV)/.dev-ready
	$(BIN)/python tests/benchmarks/profile_step.py $(STEP)

# The table and pictures of README.md, made again on this machine.
reference: $(VENV)/.run-ready
	$(BIN)/qbench run digits
	$(BIN)/python results/reference/refresh.py results/runs/digits

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check-methods: $(VENV)/.run-ready
	for method in $$($(BIN)/qbench list methods | cut -d ' ' -f 1); do $(BIN)/qbench check $$method || exit 1; done

wheel: $(VENV)/.dev-ready
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "qbench needs Python 3.11 or newer; set PYTHON=python3.12, for example" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The compiled kernels belong to their sources: changed ones are built again, and nothing else is.
$(VENV)/.run-ready: $(VENV)/bin/python pyproject.toml constraints.txt setup.py $(KERNELS)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"  # older ones know no dependency groups
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.run-ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	@touch $@

$(VENV)/.bench-ready: $(VENV)/.dev-ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	@touch $@
