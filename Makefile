# make run: everything from a clone to a report.  make test: everything that CI checks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY ?= digits
OUT ?= runs/gpu

.PHONY: run test test-slow fuzz gpu lint clean

run: $(VENV)/.installed
	$(BIN)/lacewing run $(STUDY)

test: lint # property tests draw the same examples each time, so that a change fails only by what it changed
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" --hypothesis-profile=ci

test-slow: lint # all tests; property tests draw new examples
	$(BIN)/python -m pytest -n auto --dist worksteal

fuzz: $(VENV)/.installed-dev # 5000 wrong inputs, about a quarter of an hour; CASE=1234 repeats one and shows what it prints
	$(BIN)/python tests/fuzz/fuzz.py $(if $(CASE),--case $(CASE)) $(if $(INPUTS),--inputs $(INPUTS)) $(if $(SEED),--seed $(SEED))

gpu: # eight minutes on a machine with a GPU. PYTHON has a torch for it and the extra dev; nothing is installed here
	PYTHONPATH=src $(PYTHON) benchmarks/gpu.py --out $(OUT) $(if $(DATA),--data-root $(DATA))

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean: # removes the environment and the folders that tools keep; never runs/, which holds people's results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
