# `make demo` makes the default experiment, `make study` compares all objectives at its scale,
# `make derd-study` takes DERD apart on Fashion-MNIST, `make test` runs the tests, `make slurm-test`
# the tiny graph through a real SLURM controller (root).
# Each sets everything up.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
export OMP_NUM_THREADS := 1

.PHONY: demo study dad-study derd-study test chaos slurm-test lint docs bench gpu plan clean-env

demo: .venv/installed
	$(BIN)/snakemake --cores all
	@$(BIN)/retort results

study: .venv/installed
	$(BIN)/snakemake --cores all --configfile workflow/study.yaml
	@$(BIN)/retort results --configfile workflow/study.yaml

dad-study: .venv/installed
	$(BIN)/snakemake --cores all --configfile workflow/dad-study.yaml
	@$(BIN)/retort results --configfile workflow/dad-study.yaml

derd-study: .venv/installed
	$(BIN)/snakemake --cores all --configfile workflow/derd-study.yaml
	@$(BIN)/retort results --configfile workflow/derd-study.yaml

test: .venv/installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

slurm-test: .venv-slurm/installed
	.venv-slurm/bin/python -m tests.workflow.slurm

# The long forms: stages and whole workflows killed at seeded moments, readers fed with nonsense.
chaos: .venv/installed
	$(BIN)/python -m tests.helpers.chaos 200 50
	$(BIN)/python -m tests.helpers.fuzz 10000

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

# The pictures, then the site, into build/site; NO_MKDOCS_2_WARNING silences an advertisement.
docs: .venv/installed
	$(BIN)/python docs/draw_floors.py
	$(BIN)/python docs/draw_demo.py
	$(BIN)/python docs/draw_performance.py
	$(BIN)/python docs/draw_objectives.py
	$(BIN)/python docs/draw_bank_response.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict -f docs/site/mkdocs.yml

# Ratios within one run, into benchmarks/results; ARGS=--quick takes three minutes and writes to
# build/bench; ARGS="--store store" adds the demo's own records. torchattacks pins old versions of
# what it imports, so it is installed without them.
bench: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps torchattacks==3.5.1
	$(BIN)/python -m benchmarks.run $(ARGS)

# Needs a GPU and torch, and no .venv: PYTHON=python3 ARGS="--wheels FOLDER --images FILE".
gpu:
	$(PYTHON) benchmarks/gpu/run.py --out benchmarks/results $(ARGS)

plan: .venv/installed
	@$(BIN)/retort plan

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(PYTHON) is older than 3.11; run make PYTHON=python3.11"; exit 2; }
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# Of its own, with .venv's packages behind it: where SLURM's plugin is installed, every start of
# snakemake asks the controller, which takes seconds.
.venv-slurm/installed: .venv/installed
	rm -rf .venv-slurm
	$(BIN)/python -m venv --without-pip .venv-slurm
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$(.venv-slurm/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	.venv-slurm/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[slurm]'
	@touch $@

clean-env:
	rm -rf .venv .venv-slurm
