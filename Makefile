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
HINT := Name another: make PYTHON=python3.12

export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Set in many containers; each of the processes that tests start would then compile what it loads of Troth anew.
unexport PYTHONDONTWRITEBYTECODE

NATIVE := $(wildcard src/troth/serve/engine/cpu/native/*)

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
	.venv/bin/troth serve runs/nano/best --name nano

test: .venv/.troth-dev ## Run the quick tests
	.venv/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: .venv/.troth-dev ## Run the long tests
	.venv/bin/python -m pytest -m slow -n 2 --dist loadfile $(ARGS)

lint: .venv/.troth-dev ## Check style, types and which part imports which
	.venv/bin/ruff check
	.venv/bin/mypy src
	.venv/bin/lint-imports

clean: ## Remove caches and build leftovers; the environment (.venv) and what you trained (runs/) stay
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# torch is installed first, alone and by its exact version: pip then takes the build that this machine or TORCH_INDEX
# offers (2.13.0+cpu, 2.13.0+cu130), which counts as later than the plain one.
.venv/.troth: .venv/pyvenv.cfg pyproject.toml setup.py constraints.txt $(NATIVE)
	@echo "Installing $(TORCH) into .venv (the largest download, once)"
	@$(PIP) "$(TORCH)" $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)")
	@echo "Installing Troth and what it stands on into .venv"
	@$(PIP) --editable .
	@touch $@

.venv/.troth-dev: .venv/.troth
	@echo "Installing what tests and checks need into .venv"
	@$(PIP) "troth[dev]"
	@touch $@

# Looked at on each run; replaced, and so newer than the stamps, only where .venv cannot serve: it is missing or broken,
# was made elsewhere (scripts inside hold absolute paths), or has another Python than the one asked for by name.
.venv/pyvenv.cfg: check-venv
	@minor() { "$$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }; \
	fail() { echo "$$1" >&2; exit 1; }; \
	made=`minor .venv/bin/python`; offered=`minor "$(PYTHON)"`; \
	if grep -qF "$(CURDIR)/.venv" .venv/bin/activate 2>/dev/null && .venv/bin/python -m pip --version >/dev/null 2>&1; then \
	    case "$$made" in 3.11|3.12|3.13) \
	        if test -z "$(PYTHON_ASKED)" || test "$$made" = "$$offered"; then exit 0; fi;; \
	    esac; \
	fi; \
	case "$$offered" in \
	    3.11|3.12|3.13) ;; \
	    '') fail "Troth needs Python 3.11, 3.12 or 3.13: '$(PYTHON)' does not run. $(HINT)";; \
	    *) fail "Troth needs Python 3.11, 3.12 or 3.13: '$(PYTHON)' is $$offered. $(HINT)";; \
	esac; \
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null \
	    || fail "'$(PYTHON)' has no venv module, which Troth is installed with (Debian and Ubuntu: apt install python3-venv)."; \
	echo "Making .venv with Python $$offered"; \
	"$(PYTHON)" -m venv --clear .venv
