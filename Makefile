# One vocabulary for people and workflows. `make serve` and `make test` need Python 3.11, make and git, nothing else.
PYTHON ?= python3.11
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help dev serve test api dashboards monitoring-test lint types audit train new default-model pull report gate \
	publish deploy deliver mlflow owner manifests requirements image run-image rehearsal recording smoke-test \
	collect clean

serve: $(VENV)/.serve  ## the service with the embedded default model
	LOG_FORMAT=$${LOG_FORMAT:-text} PORT=$(PORT) exec $(BIN)/python -m app

dev: $(VENV)/.dev  ## the environment with all that trains, tests and measures: .venv

# Two files at once: the tests wait more than they work.
test: $(VENV)/.dev  ## every test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

api: $(VENV)/.dev  ## docs/API.md from app/openapi.yaml
	$(BIN)/python scripts/api_reference.py

dashboards: $(VENV)/.dev  ## monitoring/grafana/dashboards from monitoring/dashboards
	$(BIN)/python -m monitoring.dashboards

monitoring-test: $(VENV)/.dev  ## trouble made for real, and the alerts that tell of it
	REAL_PHOTOS=1 $(BIN)/python -m pytest -s tests/monitoring/test_alerts_fire.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck .ci/run $(wildcard scripts/*.sh)
	$(BIN)/shfmt --indent 2 --diff .ci/run $(wildcard scripts/*.sh)
	PATH=$(CURDIR)/$(BIN):$$PATH actionlint
	$(BIN)/zizmor --offline --quiet --pedantic .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/python scripts/api_reference.py --check

types: $(VENV)/.dev
	$(BIN)/mypy

audit: $(VENV)/.dev  ## known vulnerabilities of what serves, as PyPI's advisories tell
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r requirements.txt

# SOURCE: a folder, a .zip or its URL, or oxford-pets. OTHER: a folder or .zip of photos of none of the classes, to
# measure how well they are told. Both are written to params.yaml.
train: $(VENV)/.dev  ## photos in, models/model.pt out
ifdef SOURCE
	$(BIN)/python -m ml.params "ingest.source=$(SOURCE)"
	PATH=$(CURDIR)/$(BIN):$$PATH dvc repro --force --single-item ingest
endif
ifdef OTHER
	$(BIN)/python -m ml.params "evaluate.other=$(OTHER)"
endif
	PATH=$(CURDIR)/$(BIN):$$PATH dvc repro

# The whole way at once for photos of one's own: SOURCE as above.
new: train  ## photos of your own classes in, a service that tells them out
	MODEL_URL="file://$(CURDIR)/models/model.pt" $(MAKE) serve

default-model: $(VENV)/.dev  ## models/model.pt becomes the embedded one, with its card and the page's picture in docs/
	cp models/model.pt app/default/model.pt
	$(BIN)/python -c 'from pathlib import Path; from ml import bundle; \
		print(bundle.read(Path("app/default/model.pt")).card, end="")' >docs/MODEL_CARD.md
	$(BIN)/python scripts/page_picture.py

pull: $(VENV)/.dev  ## photos and models from the DVC remote, where one is named
	scripts/pull.sh

report: $(VENV)/.dev  ## reports/report.html: all that the pipeline found, on one page
	$(BIN)/python -m ml.report

gate: $(VENV)/.dev  ## whether models/model.pt may be released
	$(BIN)/python -m ml.gate

publish: $(VENV)/.dev  ## models/model.pt as the release TAG=v1.2.3
	scripts/publish.sh

# TARGET: docker, render or cloud-run; DEPLOY_FLAGS: --model-url URL, say.
deploy: $(VENV)/.serve  ## IMAGE to TARGET, smoke-tested, and back where that fails
	$(BIN)/python scripts/deploy.py $(TARGET) --image $(IMAGE) $(DEPLOY_FLAGS)

deliver: $(VENV)/.serve  ## this repository's image and released model, wherever it is set up
	scripts/deliver.sh

mlflow: $(VENV)/.dev  ## the runs, in a browser at http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db} --host 127.0.0.1 --port 5000

owner:  ## your repository's name in render.yaml and deploy/, from the remote origin or OWNER=me/repo
	scripts/set_owner.sh $(OWNER)

manifests:  ## deploy/k8s/all.yaml anew from its base; needs kubectl
	{ echo '# Made from base/ by make manifests: all of it in one file, for kubectl apply -f or podman kube play.'; \
		kubectl kustomize deploy/k8s/base; } > deploy/k8s/all.yaml

PIN := CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host --no-emit-options pyproject.toml
requirements: $(VENV)/.dev  ## pin again what pyproject.toml asks for; add UPGRADE=--upgrade for newer versions
	$(PIN) $(UPGRADE) -o requirements.txt
	$(PIN) $(UPGRADE) --extra torch -c requirements.txt -o requirements-torch.txt
	$(PIN) $(UPGRADE) --extra torch --extra train -c requirements-torch.txt -o requirements-train.txt
	$(PIN) $(UPGRADE) --extra torch --extra train --extra dev -c requirements-train.txt -o requirements-dev.txt

# CONTAINER: docker or podman, whichever works; IMAGE: the tag; BUILD_FLAGS: --build-arg RUNTIME=torch, say.
CONTAINER ?= $(shell docker info >/dev/null 2>&1 || ! command -v podman >/dev/null && echo docker || echo podman)
IMAGE ?= cats-vs-dogs
BUILD_FLAGS ?=
# Where the code is from, as a web address and without what may be secret in a remote's URL.
SOURCE_URL ?= $(shell git config --get remote.origin.url | \
	sed -n 's|^git@\([^:]*\):|https://\1/|; s|^https://[^@/]*@|https://|; s|\.git$$||; /^https:/p')

LABEL := --label org.opencontainers.image
image:  ## the image that serves
	@command -v $(firstword $(CONTAINER)) >/dev/null || { echo 'error: needs docker or podman; CONTAINER=… names another command' >&2; exit 1; }
	BUILDAH_FORMAT=docker $(CONTAINER) build --tag $(IMAGE) \
		$(LABEL).version="$$(git describe --tags --always --dirty 2>/dev/null)" \
		$(LABEL).revision="$$(git rev-parse HEAD 2>/dev/null)" \
		$(LABEL).created="$$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
		$(LABEL).source="$(SOURCE_URL)" $(BUILD_FLAGS) .

# The service's settings are passed on by name where they are set, so that no secret is in the process list.
SETTINGS := MODEL_URL MODEL_SHA256 MODEL_TOKEN ENGINE THREADS MAX_CONCURRENCY MAX_QUEUE REQUEST_TIMEOUT_S \
	MAX_UPLOAD_MB MAX_PIXELS UNKNOWN API_KEYS CORS_ORIGINS DRAIN_SECONDS LOG_LEVEL LOG_FORMAT \
	METRICS_TOKEN METRICS_PUSH_URL METRICS_PUSH_SECONDS
# From .env too, except where in the container it listens and writes.
run-image:  ## that image at http://localhost:8080, hardened
	$(CONTAINER) run --rm --publish 127.0.0.1:$(PORT):8080 --read-only --tmpfs /cache \
		--cap-drop ALL --security-opt no-new-privileges $(if $(wildcard .env),--env-file .env) \
		$(foreach name,$(SETTINGS),$(if $(filter environment%,$(origin $(name))),--env $(name))) \
		--env HOST= --env PORT=8080 --env MODEL_CACHE_DIR=/cache $(RUN_FLAGS) $(IMAGE)

rehearsal: $(VENV)/.dev  ## pipeline, release, image, deployment, rollback, all on this machine
	$(BIN)/python scripts/rehearsal.py

recording: $(VENV)/.dev  ## a film of all that in docs/; needs ffmpeg, chromium and prometheus too
	$(BIN)/python scripts/recording.py

smoke-test:  ## ask a live service whether it does its work: make smoke-test URL=https://…
	scripts/smoke_test.sh "$(URL)"

collect: $(VENV)/.dev  ## labelled photos to a live service: make collect SERVICE_URL=https://…
	scripts/collect.sh

help:  ## what there is to make
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 18

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# One environment in two layers: what serves, and on top what trains, tests and checks, at the same versions.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: requirements.txt | $(VENV)/bin/python
	@echo 'installing what serves'
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

# TORCH_INDEX_URL: where torch comes from, such as https://download.pytorch.org/whl/cpu, whose wheels need no CUDA.
$(VENV)/.dev: requirements-dev.txt $(VENV)/.serve | $(VENV)/bin/python
	@echo 'installing what trains and tests: some GB, and minutes without a word'
ifdef TORCH_INDEX_URL
	$(BIN)/pip install --quiet --no-deps --index-url $(TORCH_INDEX_URL) -c requirements-dev.txt torch torchvision
	grep -Ev '^(cuda|nvidia|triton)' requirements-dev.txt >$@.txt
	$(BIN)/pip install --quiet -r $@.txt
else
	$(BIN)/pip install --quiet -r requirements-dev.txt
endif
	touch $@
