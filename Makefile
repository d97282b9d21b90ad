# oxford102: `make help` lists what can be made.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo reproduce test bench lint format proto clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv with the pinned requirements and the commands

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or later is needed, this is %s: make PYTHON=python3.12" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: $(READY) ## the whole main job on a small set of drawn flowers, in under four minutes
	@$(BIN)/python scripts/demo.py

reproduce: $(READY) ## from nothing to the test accuracy of MODEL= (GPU= or the CPU); a row in results/results.csv
	@test -n "$(MODEL)" || { echo "Which model? For example: make reproduce MODEL=CaffeNet GPU=0" >&2; exit 2; }
	@$(BIN)/python scripts/reproduce.py "$(MODEL)" $(if $(GPU),--gpu "$(GPU)") $(ARGS)

test: $(READY) ## run the tests, on all cores
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(ARGS)

bench: $(READY) ## measure speed and memory beside a peer, as ratios
	@$(BIN)/python bench/weights.py
	@$(BIN)/python bench/frozen.py
	@$(BIN)/python bench/training.py
	@$(BIN)/python bench/inference.py
	@$(BIN)/python bench/data.py $(PICTURES)
	@$(BIN)/python bench/startup.py

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## let ruff format the sources
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Messages made by protoc of protobuf 4.25 load in every later protobuf; a newer protoc would ask for itself.
proto: $(READY) ## make caffe_pb2.py from caffe.proto
	$(PYTHON) -m venv $(VENV)/protoc
	$(VENV)/protoc/bin/python -m pip install --quiet --disable-pip-version-check grpcio-tools==1.62.3 'setuptools<80'
	cd python && ../$(VENV)/protoc/bin/python -m grpc_tools.protoc -I caffe/proto \
		--python_out=caffe/proto --pyi_out=caffe/proto caffe/proto/caffe.proto

clean: ## remove what make made; data and models stay
	rm -rf $(VENV) build dist *.egg-info python/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo
