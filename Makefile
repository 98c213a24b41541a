# Everything a newcomer or a maintainer types. Each target installs what it needs into $(VENV).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP_FLAGS ?= -q
# Spinning BLAS threads make small models ten times slower on shared cores.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup demo test test-slow nightly check docs links links-outside tutorials bench train-demo clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) --upgrade pip

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[vlm]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.dev  ## install the package with everything a developer needs

demo: $(VENV)/.demo  ## run the whole path on the bundled model and say where the report is
	$(BIN)/redundancy demo --fresh

test: $(VENV)/.dev  ## run the tests (under 10 minutes on 2 cores)
	$(BIN)/python -m pytest -q -n auto --dist loadfile $(PYTEST_FLAGS)

test-slow: $(VENV)/.dev  ## run the long tests too
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m 'not gpu' $(PYTEST_FLAGS)

nightly: $(VENV)/.dev  ## what takes hours: a hundred kills, 10,000 hostile files per parser, clusters
	$(BIN)/python -m pytest -q -m '(slow or distributed) and not gpu' --durations=30 $(PYTEST_FLAGS)

check: $(VENV)/.dev  ## lint, types, layering, docs and their links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs links

docs: $(VENV)/.dev  ## build the documentation, warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

links: $(VENV)/.dev docs  ## check every link within the documentation
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/links
	$(BIN)/python docs/check_links.py docs/_build/html

links-outside: $(VENV)/.dev  ## check links that leave the documentation (nightly: needs a network)
	$(BIN)/python -m sphinx -q -b linkcheck -t outside docs docs/_build/links

tutorials: $(VENV)/.dev  ## run the tutorials and examples that take a model through the whole path
	$(BIN)/python -m pytest -q docs tests/examples tests/test_readme.py -m slow $(PYTEST_FLAGS)

bench: $(VENV)/.dev  ## time ours beside its peers, in one run each
	for b in benchmarks/[a-z]*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

train-demo: $(VENV)/.demo  ## train the bundled model again, all stages, seeded
	$(BIN)/python -m redundancy.demo.train

clean:  ## remove what the targets made, but not the environment
	rm -rf docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
