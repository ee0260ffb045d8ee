# nvkit: `make demo` on a fresh machine is all that it takes; `make help` lists the rest.
#   VENV    the virtual environment that is made and used (default .venv)
#   PYTHON  the Python that makes it (default python3)
#   ARGS    further arguments for the command of the target, e.g. make test ARGS="-k rounds"

VENV ?= .venv
PYTHON ?= python3
ARGS ?=

SHELL := /bin/sh
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check -q
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-gpu lab lint bench clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS='	' read -r target text; do printf '  make %-8s %s\n' "$$target" "$$text"; done

demo: $(VENV)/.installed ## reproduce resnet50 on this machine's CPU, in a few minutes
	$(VENV)/bin/nvkit run resnet50 --profile cpu --quick $(ARGS)

lab: $(VENV)/.installed ## open the notebooks in JupyterLab
	$(VENV)/bin/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_start.ipynb $(ARGS)

bench: $(VENV)/.installed ## measure nvkit's own overheads, each against its peer
	$(VENV)/bin/nvkit bench $(ARGS)

test: $(VENV)/.installed-dev ## run the tests
	$(VENV)/bin/pytest $(ARGS)

test-gpu: $(VENV)/.installed-dev ## run the tests that need a GPU; install TensorRT first: pip install -e '.[gpu]'
	$(VENV)/bin/pytest -m gpu $(ARGS)

lint: $(VENV)/.installed-dev ## check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean: ## remove the virtual environment and all caches; outputs/ stays
	@test ! -f '$(VENV)/pyvenv.cfg' || rm -rf '$(VENV)'
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find nvkit tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# Prints what is wrong with $(PYTHON), or nothing. Debian's python3 has no ensurepip until python3-venv is installed.
probe = if ! command -v '$(PYTHON)' >/dev/null 2>&1; then \
    echo 'there is no $(PYTHON) here; run "sudo apt install python3 python3-venv"'; \
  elif ! '$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then \
    echo '$(PYTHON) is older than 3.10; install a newer one and run "make PYTHON=python3.12 ..."'; \
  elif ! '$(PYTHON)' -c 'import ensurepip, venv' >/dev/null 2>&1; then \
    echo 'this Python cannot make virtual environments; run "sudo apt install $(notdir $(PYTHON))-venv"'; \
  fi

# $(error), because it ends make with this one line; a failing command would add a line of make's own.
# The stamps are written last, so that an installation that fails leaves none and is tried again.
has_pip = '$(VENV)/bin/python' -m pip --version >/dev/null 2>&1
problem = $(shell $(has_pip) || { $(probe); })
define install
$(if $(problem),$(error nvkit: $(problem)))
@$(has_pip) || { echo 'Making the virtual environment $(VENV)'; '$(PYTHON)' -m venv '$(VENV)'; }
@echo 'Installing nvkit and what it needs ($(extras)); this takes a minute or two'
@$(PIP) install -e '.[$(extras)]' || { echo 'nvkit: the installation failed; is there a network?' >&2; exit 1; }
endef

$(VENV)/.installed: extras = text,vision,lab
$(VENV)/.installed: pyproject.toml
	$(install)
	@touch $@

$(VENV)/.installed-dev: extras = text,vision,lab,dev
$(VENV)/.installed-dev: pyproject.toml
	$(install)
	@touch '$(VENV)/.installed' $@
