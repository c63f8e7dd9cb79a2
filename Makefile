# Everything here works from a fresh checkout: the virtual environment .venv is made and kept up to date as needed.
#
#   PYTHON=python3.12 make demo    the Python that .venv is made with (3.11, 3.12 or 3.13)
#   TORCH_INDEX=URL make demo      a further package index for torch, such as one with builds for a CUDA version
#   SERVE=0 make demo              stop after the cycle
#   make test ARGS="tests/model"   further arguments for pytest

PYTHON_ASKED := $(PYTHON)
PYTHON ?= python3
SERVE ?= 1
TORCH := torch==2.13.0

export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SHELL := /bin/sh
PIP := .venv/bin/python -m pip install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo serve test test-slow lint clean check-venv

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: .venv/.troth ## See the whole thing work on real text, then talk to the model in a browser or an OpenAI client
	.venv/bin/troth cycle --system nano --out runs/nano
	@if [ "$(SERVE)" != 0 ]; then $(MAKE) --no-print-directory serve; fi

serve: .venv/.troth ## Serve the model that the demo made
	.venv/bin/troth serve runs/nano/best

test: .venv/.troth-dev ## Run the quick tests
	.venv/bin/python -m pytest $(ARGS)

test-slow: .venv/.troth-dev ## Run the long tests
	.venv/bin/python -m pytest -m slow $(ARGS)

lint: .venv/.troth-dev ## Check style, types and which part imports which
	.venv/bin/ruff check
	.venv/bin/mypy src
	.venv/bin/lint-imports

clean: ## Remove the environment, caches and build leftovers; what you trained (runs/) stays
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# torch is installed first, alone and by its exact version: pip then takes the build that this machine or TORCH_INDEX
# offers (2.13.0+cpu, 2.13.0+cu130), which counts as later than the plain one.
.venv/.troth: .venv/pyvenv.cfg pyproject.toml constraints.txt
	@echo "Installing $(TORCH) into .venv (the largest download, once)"
	@$(PIP) "$(TORCH)" $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)")
	@echo "Installing Troth and what it stands on into .venv"
	@$(PIP) --editable .
	@touch $@

.venv/.troth-dev: .venv/.troth
	@echo "Installing what tests and checks need into .venv"
	@$(PIP) --editable ".[dev]"
	@touch $@

# Looked at on each run; replaced, and so newer than the stamps, only where .venv cannot serve: it is missing or broken,
# was made elsewhere (scripts inside hold absolute paths), or has another Python than the one that was asked for.
.venv/pyvenv.cfg: check-venv
	@if test -f $@ && grep -qF "$(CURDIR)/.venv" .venv/bin/activate \
	    && .venv/bin/python -c 'import pip, sys; assert (3, 11) <= sys.version_info < (3, 14)' 2>/dev/null \
	    && { test -z "$(PYTHON_ASKED)" || test "`$(VERSION_OF) .venv/bin/python`" = "`$(VERSION_OF) $(PYTHON)`"; }; \
	then exit 0; fi; \
	command -v "$(PYTHON)" >/dev/null \
	    || { echo "Troth needs Python 3.11, 3.12 or 3.13: '$(PYTHON)' is not there. $(PYTHON_HINT)" >&2; exit 1; }; \
	"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	    || { echo "Troth needs Python 3.11, 3.12 or 3.13: '$(PYTHON)' is `"$(PYTHON)" --version 2>&1`. $(PYTHON_HINT)" >&2; exit 1; }; \
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "'$(PYTHON)' cannot make virtual environments: install its venv module (Debian, Ubuntu: python3-venv)." >&2; exit 1; }; \
	echo "Making .venv with `"$(PYTHON)" --version 2>&1`"; \
	"$(PYTHON)" -m venv --clear .venv
