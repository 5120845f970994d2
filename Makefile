# make demo    see it work: draws a data set, finds its wrong labels, opens the browser
# make app     open the app on data/workspace
# make test    everything CI runs
# make check   what to run before a commit

PYTHON ?= python3
BIN := .venv/bin
digest = $(shell cat $(1) | cksum | cut -d' ' -f1)
RUN_STAMP := .venv/.run-$(call digest,requirements.txt)
DEV_STAMP := .venv/.dev-$(call digest,requirements.txt requirements-onnx.txt requirements-dev.txt)
CODE := app.py deft_core review_ui tests tools
# A process for each core, as long as the memory of an ordinary machine holds them.
PYTEST = $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

.PHONY: demo app test check format clean

demo: $(RUN_STAMP)
	$(BIN)/python app.py --demo

app: $(RUN_STAMP)
	$(BIN)/python app.py

test: $(DEV_STAMP)
	$(PYTEST)

check: $(DEV_STAMP)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

format: $(DEV_STAMP)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Python 3.11 or later is needed; name one with: make PYTHON=python3.12 ...'; exit 1; }
	@$(PYTHON) -m venv .venv \
	  || { rm -rf .venv; echo 'On Debian, install the package python3-venv first.'; exit 1; }

$(RUN_STAMP): .venv/bin/python
	@echo 'Installing what the app needs (a few minutes, once) ...'
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@rm -f .venv/.run-*; touch $@

$(DEV_STAMP): $(RUN_STAMP)
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	@rm -f .venv/.dev-*; touch $@
