# Each target does all of its own set-up; `make venv` alone is enough to work by hand.
PYTHON ?= python3
VENV := .venv
# e.g. https://download.pytorch.org/whl/cpu, for a torch without CUDA
TORCH_INDEX ?=
BIN := $(VENV)/bin

.PHONY: venv demo test check clean

venv: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,tensorboard,adroit,report]'
	touch $@

demo: venv
	$(BIN)/python -m adabc_lightning fit --config hopper.yaml --config quick.yaml

test: venv
	$(BIN)/python -m pytest

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist
