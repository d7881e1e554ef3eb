# One vocabulary for people and workflows. `make serve` and `make test` need Python 3.11, make and git, nothing else.
PYTHON ?= python3.11
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: serve test lint types audit train mlflow requirements owner clean

serve: $(VENV)/.serve  ## the service with the embedded default model
	LOG_FORMAT=$${LOG_FORMAT:-text} PORT=$(PORT) exec $(BIN)/python -m app

test: $(VENV)/.dev  ## every test
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck .ci/run $(wildcard scripts/*.sh)
	$(BIN)/shfmt --indent 2 --diff .ci/run $(wildcard scripts/*.sh)

types: $(VENV)/.dev
	$(BIN)/mypy

audit: $(VENV)/.dev  ## known vulnerabilities of what serves, as PyPI's advisories tell
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r requirements.txt

# SOURCE: a folder, a .zip or its URL, or oxford-pets; it is written to params.yaml.
train: $(VENV)/.dev  ## photos in, models/model.pt out
ifdef SOURCE
	$(BIN)/python -m ml.params "ingest.source=$(SOURCE)"
	PATH=$(CURDIR)/$(BIN):$$PATH dvc repro --force --single-item ingest
endif
	PATH=$(CURDIR)/$(BIN):$$PATH dvc repro

mlflow: $(VENV)/.dev  ## the runs, in a browser at http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db} --host 127.0.0.1 --port 5000

PIN := CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host --no-emit-options pyproject.toml
requirements: $(VENV)/.dev  ## pin again what pyproject.toml asks for; add UPGRADE=--upgrade for newer versions
	$(PIN) $(UPGRADE) -o requirements.txt
	$(PIN) $(UPGRADE) --extra torch -c requirements.txt -o requirements-torch.txt
	$(PIN) $(UPGRADE) --extra torch --extra train -c requirements-torch.txt -o requirements-train.txt
	$(PIN) $(UPGRADE) --extra torch --extra train --extra dev -c requirements-train.txt -o requirements-dev.txt

owner:  ## your repository's name in render.yaml and deploy/, from the remote origin or OWNER=me/repo
	scripts/set_owner.sh $(OWNER)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# One environment in two layers: what serves, and on top what trains, tests and checks, at the same versions.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: requirements.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.serve | $(VENV)/bin/python
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@
