# make demo      train the lecture's ViT on shapes, with a report at the end
# make test      every test
# make check     format, lint, types, layers, spelling
# make docs      the documentation site, in build/site
# make bench     the numbers in benchmarks/results/, about an hour
# Each makes .venv first, when it is missing or older than what it is made from.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(if $(shell command -v $(name)),$(name))))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test check docs bench clean

demo: $(INSTALLED)
	$(BIN)/vitral train

test: $(INSTALLED)
	$(BIN)/python -m pytest -n logical
	VITRAL_TYPED=1 $(BIN)/python -m pytest -n logical tests/unit tests/laws -q

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
