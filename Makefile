# make demo   transcribe the sample clips with the packaged model
# make test   run the tests
# make docs   build the documentation into site/
# All install into .venv first, once. PYTHON chooses the interpreter; PIP_ARGS goes to pip.
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin

.PHONY: demo test lint docs clean

demo: .venv/.installed
	$(BIN)/asr transcribe data/samples

test: .venv/.installed-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info < (3, 13) or sys.exit("asr needs Python 3.10 to 3.12; name one: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_ARGS) -e .
	touch $@

.venv/.installed-test: .venv/.installed
	$(BIN)/python -m pip install $(PIP_ARGS) -e ".[test]"
	touch $@

clean:
	rm -rf .venv site
