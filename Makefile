# make demo      train a small ViT on shapes, with a report at the end
# make test      every test
# make fast      laws and units alone
# make check     format, lint, types, layers, spelling
# make docs      the documentation site, in build/site
# make bench     the numbers in benchmarks/results/, about an hour
# Each makes .venv first, when it is missing or older than what it is made from. Another Python, and a place for its
# environment: make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(if $(shell $(name) -c 1 2>&1 || echo fails),,$(name))))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test fast check docs bench clean

demo: $(INSTALLED)
	$(BIN)/vitral train

test: $(INSTALLED)
	$(BIN)/python -m pytest -n logical
	VITRAL_TYPED=1 $(BIN)/python -m pytest -n logical tests/unit tests/laws -q

fast: $(INSTALLED)
	$(BIN)/python -m pytest -n logical tests/unit tests/laws -q

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

docs: $(INSTALLED)
	$(BIN)/zensical build --strict --clean

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Vitral needs Python 3.11 or later; found " + sys.version.split()[0] + ". Name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
