# `make demo` makes the default experiment, `make study` compares all objectives at its scale,
# `make test` runs the tests. Each sets everything up.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS := 1

.PHONY: demo study test lint plan clean-env

demo: .venv/installed
	$(BIN)/snakemake --cores all
	@$(BIN)/python -m pipeline results

study: .venv/installed
	$(BIN)/snakemake --cores all --configfile workflow/study.yaml
	@$(BIN)/python -m pipeline results --configfile workflow/study.yaml

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

plan: .venv/installed
	@$(BIN)/python -m pipeline plan

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(PYTHON) is older than 3.11; run make PYTHON=python3.11"; exit 2; }
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

clean-env:
	rm -rf .venv
