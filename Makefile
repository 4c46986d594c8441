# `make demo` and `make test` set up everything they need: python 3.11 or later, make and git are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test check bench test-e2e clean

$(VENV)/run-time: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev: $(VENV)/run-time
	$(PIP) install --constraint constraints.txt --editable '.[train,dev]'
	touch $@

demo: $(VENV)/run-time
	$(BIN)/spinepaint demo --out out/demo

test: $(VENV)/dev
	$(BIN)/python -m pytest tests

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/dev
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) out
