# Each target does all of its own set-up; `make venv` alone is enough to work by hand.
PYTHON ?= python3
VENV := .venv
# e.g. https://download.pytorch.org/whl/cpu, for a torch without CUDA
TORCH_INDEX ?=
BIN := $(VENV)/bin
# a folder with hopper_medium_replay.hdf5 and the like, for `make small`
DATA ?= ../shared/data

.PHONY: venv demo small test lowest fuzz docs release-check docker-check check clean

venv: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@echo "installing everything that tests, docs and examples need into $(VENV): some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs,tensorboard,adroit,report,tables,export,video,ray]'
	touch $@

demo: venv
	$(BIN)/python -m adabc_lightning fit --config hopper.yaml --config quick.yaml

# all methods and the figures' variants on Hopper medium-replay in small: 63 runs and 15
# pre-trainings, an hour or two on two cores, resumable (docs/results.md)
small: venv
	$(BIN)/python -m adabc_lightning experiment small --config small --data-dir $(DATA)

test: venv
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# the same with every dependency at the lowest that pyproject.toml allows, or, with TORCH=2.12.1,
# with that torch; LOWEST_TESTS=reduced, or words for pytest, for less (docs/release.md)
lowest:
	$(PYTHON) tests/versions.py $(if $(TORCH),--torch $(TORCH)) --tests "$(LOWEST_TESTS)"

# random datasets, configs and checkpoints into their entry points, FUZZ_SECONDS long (docs/reliability.md)
fuzz: venv
	$(BIN)/python tests/fuzz.py

# the documentation site, into build/site; any warning is an error
docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# wheel and sdist: built, checked, installed into a clean environment each, and run (docs/release.md)
release-check: venv
	TORCH_INDEX=$(TORCH_INDEX) $(BIN)/python tests/release.py

# the Dockerfile's steps, without an engine: in a folder and a virtual environment (docs/release.md)
docker-check: venv
	$(BIN)/python tests/dockerfile.py $(if $(TORCH_INDEX),TORCH_INDEX=$(TORCH_INDEX))

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

clean:
	rm -rf $(VENV) build dist
