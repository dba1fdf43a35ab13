# Everything runs in .venv; `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# No stage, test or tool reports usage to anyone.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)
# The name of what `make repro` does in MLflow: all its stages and the version that it registers are below one run.
repro: export MOBILE_CENTERNET_EXECUTION := make repro, $(shell date -u '+%F %T') UTC, $(shell uname -n)

.DEFAULT_GOAL := help
.PHONY: help install repro quick ablation browser test test-slow check demo-retraining bench demo-edge clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

install: .venv/.installed ## make .venv and install requirements.lock

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: expected Python 3.11, found '$(PYTHON)'; name it: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

repro: install ## run the pipeline: footage → teacher → student → evaluated, exported, registered
	dvc repro
	python -m steps register
	@python -m steps.summary

quick: install ## the whole chain on a tiny set, in .work/quick: footage → both networks → report → registered → champion
	rm -rf .work/quick && mkdir -p .work && git clone --quiet . .work/quick
	cd .work/quick && unset MLFLOW_TRACKING_URI && mobile-centernet params quick && mobile-centernet repro && \
	  mobile-centernet promote
	@echo "All of it is in .work/quick, with a registry of its own; the report is .work/quick/data/reports/index.html"

ablation: install ## train every row of the ablation with every seed; its table lands in data/reports/ablation.md
	dvc repro class_weights
	cd ablation && dvc repro

browser: ## install Chromium, in which tests look at the HTML pages (Debian; Chrome will do); without it they skip
	@command -v chromium google-chrome >/dev/null && command -v chromedriver >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && as_root= || as_root=sudo; \
	  $$as_root apt-get -qq -o Acquire::Retries=3 update && \
	  $$as_root apt-get -qq -o Acquire::Retries=3 install --yes --no-install-recommends chromium chromium-driver; }

test: install ## run the test suite
	python -m pytest -m "not slow and not benchmark"

test-slow: install ## run the tests that take minutes
	python -m pytest -m slow

check: install ## ruff, ruff format, mypy strict, import-linter
	ruff check .
	ruff format --check .
	mypy
	lint-imports

demo-retraining: install ## four nights of retraining on drawn footage: promoted, no change, promoted, rejected (minutes)
	python -m examples.four_nights

bench: install ## measure speed and memory as ratios, side by side in one run
	python -m pytest -m benchmark -s

demo-edge: install ## six device agents: a promotion, an attack, a rollback, a change of keys
	python -m examples.fleet

clean: ## remove what the pipeline wrote; keeps .venv and the DVC cache
	rm -rf data/raw data/prepared data/models data/export data/pseudo_labels data/reports ablation/runs .work
