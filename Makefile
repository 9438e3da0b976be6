# Works on a machine that has python3 with venv and pip and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 3  # one more than the cores of a small machine: some tests wait for processes

.PHONY: docs demo test suite test-long test-stress soak lint board install clean benchmark release-check

demo: $(VENV)/.installed  ## five rules on handwritten digits, audited, in a few minutes
	$(BIN)/bench run suites/quickstart.yaml

test: $(VENV)/.test  ## the tests that CI runs, with ruff, mypy and the import rules beside them
	$(MAKE) --keep-going --jobs 2 suite lint

unexport PYTHONDONTWRITEBYTECODE  # its hundreds of children would compile every module anew

suite: $(VENV)/.test  # worksteal: each process takes half of the files, and the first to finish takes from the other's rest
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not soak and not long'

test-long: $(VENV)/.test  ## the tests of more than about 1.5 seconds, which `make test` leaves out
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'long and not soak'

BUSY := import os, sys; all(os.getppid() == int(sys.argv[1]) for _ in iter(int, 1))

test-stress: $(VENV)/.test  ## the tests of processes beside four busy loops, on a machine that has two cores
	@for _ in 1 2 3 4; do $(BIN)/python -c '$(BUSY)' $$$$ & done; $(BIN)/python -m pytest -m 'processes and not soak'

soak: $(VENV)/.test  ## kills, faults and races, tens of each: docs/reliability.md
	$(BIN)/python -m pytest -m soak -s tests

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

board: $(VENV)/.installed  ## the site of the shipped reference in board/; a row that lapsed or is damaged fails
	$(BIN)/python -m bench_reference.add --check
	$(BIN)/bench site --board -o board

docs: $(VENV)/.test  ## the documentation as a site in site/, without a network; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

install: $(VENV)/.installed

benchmark: $(VENV)/.installed  ## cost of a CIFAR-10 epoch against what the arithmetic alone costs
	$(BIN)/python benchmarks/epoch.py
	$(BIN)/python benchmarks/by_hand.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/report.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	@echo "Installing bench with PyTorch into $(VENV): a download of up to 3 GB (docs/install.md: a small PyTorch)"
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@ $(VENV)/.installed

release-check: $(VENV)/.test  ## what a stranger gets: wheel and example in a clean environment, run and reported
	$(BIN)/python tests/release_check.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
