# Works on a machine that has python3 with venv and pip and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test soak lint check install clean benchmark release-check

demo: $(VENV)/.installed  ## five rules on handwritten digits, audited, in a few minutes
	$(BIN)/bench run suites/quickstart.yaml

test: $(VENV)/.test lint  ## everything that CI runs
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

soak: $(VENV)/.test  ## kills, faults and races, tens of each: docs/reliability.md
	$(BIN)/python -m pytest -m soak -s tests/test_soak.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/.installed

benchmark: $(VENV)/.installed  ## cost of a CIFAR-10 epoch against what the arithmetic alone costs
	$(BIN)/python benchmarks/epoch.py
	$(BIN)/python benchmarks/report.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@ $(VENV)/.installed

release-check: $(VENV)/.test  ## what a stranger gets: wheel and example in a clean environment, run and reported
	$(BIN)/python tests/release_check.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
