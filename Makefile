# The commands of this repository; `make` lists them.
#   make demo SYSTEM=double_mha
#   make demo DATA=/path/to/wavs TRIALS=list.txt VALIDATION=dev_list.txt

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed.stamp
SYSTEM ?= serialized_mha
OUTPUT ?= demo_output
WORKERS ?= 2
# A helper, and those that need recordings: give them --data and --lists.
NO_BENCH := $(addprefix benchmarks/,pages.py ge2e.py verification.py \
	adaptation.py export.py extraction.py training.py real_speech.py \
	what_helps.py trainings.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint bench docs clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' \
		$(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with the pinned packages of constraints.txt

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; \
		sys.exit(f"$(PYTHON) is Python {v}; 3.10 or newer is needed: make PYTHON=python3.11" \
		if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup ## train, score and load SYSTEM on made-up voices, or on DATA with TRIALS
	$(BIN)/python -m speechbrain_attn.demo.run \
		--system $(SYSTEM) --output $(OUTPUT) \
		$(if $(DATA),--data "$(DATA)") \
		$(if $(TRIALS),--trials "$(TRIALS)") \
		$(if $(VALIDATION),--validation "$(VALIDATION)") $(ARGS)

test: lint ## lint, then every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

test-fast: setup ## the tests that train nothing
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile \
		--ignore tests/recipes --ignore tests/test_readme.py

lint: setup ## ruff: rules and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: setup ## run every benchmark that needs no recordings; each writes its page
	set -e; for script in $(filter-out $(NO_BENCH),$(wildcard benchmarks/*.py)); do \
		$(BIN)/python $$script --write; done

docs: setup ## write README's tables and docs/results from their data
	$(BIN)/python -m speechbrain_attn.demo.results --write

clean: ## delete .venv and what runs and tests have left
	rm -rf $(VENV) build dist *.egg-info .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
