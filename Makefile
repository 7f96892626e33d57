# `make run` serves ./packages, `make test` runs every test. Both make their own environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test quick lint types check clean

run: $(VENV)/.installed
	mkdir -p packages
	$(BIN)/pypiserver-lite run packages

test: $(VENV)/.tested
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

# Without the publishing clients, which take longest to install and to run.
quick: $(VENV)/.basics
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not clients" --ignore-glob="tests/test_client*" $(ARGS)

lint: $(VENV)/.linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.linted $(VENV)/.tested
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -f $@; echo "make: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# pip 25.1 is the first that installs dependency groups. -qq says what fails, and nothing else.
$(VENV)/.installed: pyproject.toml setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install -qq --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -qq --editable '.[fast]'
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install -qq --group test
	@touch $@

$(VENV)/.basics: $(VENV)/.installed
	$(BIN)/python -m pip install -qq --group basics
	@touch $@

$(VENV)/.linted: $(VENV)/.installed
	$(BIN)/python -m pip install -qq --group lint
	@touch $@
