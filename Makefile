# One vocabulary for people and workflows: `make help` lists it. It needs GNU make 3.81 or later, git, and Python 3.11 to
# 3.14; on Windows, run it in git-bash. Variables:
#   PYTHON            the interpreter that .venv is made with; by default the first that is found
#   UV_TORCH_BACKEND  cpu: installs PyTorch's builds without CUDA, from PyTorch's own index
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
# Python keeps its bytecode in any case: otherwise every command would compile what it imports, torch for 10 s.
export PYTHONDONTWRITEBYTECODE :=
# For commands that look up others, such as dvc, which starts the stages with `python`.
WITH_PATH := PATH="$$PWD/$(BIN):$$PATH"

.PHONY: help serve dev test check coverage test-other-python lint types format audit docs dashboards monitoring-test train \
	new default-model pull report comparison gate check-tag publish retraining-issue due deploy deploy-tools deliver mlflow owner \
	requirements image run-image rehearsal loop recording smoke-test collect clean
.NOTPARALLEL: # the targets share one environment

serve: $(VENV)/.serve  ## start the service with the embedded model; PORT=8081 changes the port
	LOG_FORMAT=$${LOG_FORMAT:-text} PORT=$(PORT) exec $(BIN)/python -m app

dev: $(VENV)/.dev  ## create .venv with everything that trains, tests and checks

# Several test files at a time (tests/conftest.py says how many), in the order of the folders: by default, files with one long
# test would come last, and the other workers would wait for one.
PYTEST := -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
test: $(VENV)/.dev  ## run every test
	$(BIN)/python $(PYTEST)

check: lint types  ## lint, types and the quick tests: what to run before each commit
	$(BIN)/python $(PYTEST) --quiet -m "not slow"

coverage: $(VENV)/.dev  ## run every test and measure the coverage, which must not fall below the floor in pyproject.toml
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-other-python: $(VENV)/.dev  ## run the tests of service and scoring on another Python of 3.11 to 3.14, if one is installed
	scripts/test_other_python.sh

REFERENCES := api_reference settings_reference command_reference
docs: $(VENV)/.dev  ## regenerate docs/API.md, docs/settings.md and docs/command-line.md from the code
	@for name in $(REFERENCES); do $(BIN)/python -m scripts.$$name || exit 1; done

dashboards: $(VENV)/.dev  ## regenerate Grafana's dashboards and the PrometheusRule of deploy/k8s from monitoring/
	$(BIN)/python -m monitoring

monitoring-test: $(VENV)/.dev  ## cause each kind of trouble and check that its alert fires
	REAL_PHOTOS=1 $(BIN)/python -m pytest -s tests/monitoring/test_alerts_fire.py

SHELL_SCRIPTS := .ci/run $(wildcard scripts/*.sh)
WORKFLOWS := $(wildcard .github/workflows/*.yml)
lint: $(VENV)/.dev  ## check style: Python, shell, workflows, Dockerfile, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/shfmt --indent 2 --diff $(SHELL_SCRIPTS)
	$(WITH_PATH) actionlint
	$(BIN)/zizmor --offline --quiet --pedantic .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows $(WORKFLOWS)
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/pre-commit validate-config
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	@for name in $(REFERENCES); do $(BIN)/python -m scripts.$$name --check || exit 1; done

format: $(VENV)/.dev  ## format the Python code, and correct what can be corrected without you
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: $(VENV)/.dev  ## check types with mypy
	$(BIN)/mypy

audit: $(VENV)/.dev  ## look for known vulnerabilities in the packages that serve, release and deploy
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r requirements.txt -r requirements-heic.txt \
		-r requirements-collect.txt -r requirements-otel.txt -r requirements-scale.txt -r requirements-release.txt -r requirements-deploy.txt

# SOURCE: a folder, a .zip or its URL, or oxford-pets. OTHER: a folder or .zip of photos of none of the classes, to
# measure how well they are detected. Both are written to params.yaml; DVC doesn't track what is in them, so it is read
# again even if only their photos have changed.
train: $(VENV)/.dev  ## run the pipeline: photos in, models/model.pt out; SOURCE=folder trains on your photos
	@$(WITH_PATH) scripts/without_git.sh
ifdef SOURCE
	$(BIN)/python -m ml params "ingest.source=$(SOURCE)"
	$(WITH_PATH) dvc repro --force --single-item ingest
endif
ifdef OTHER
	$(BIN)/python -m ml params "evaluate.other=$(OTHER)"
	$(WITH_PATH) dvc repro train
	$(WITH_PATH) dvc repro --force --single-item evaluate
endif
	$(WITH_PATH) dvc repro

new: train  ## train on the photos in SOURCE and start a service with the result
	MODEL_URL="file://$$PWD/models/model.pt" $(MAKE) serve

default-model: $(VENV)/.dev  ## embed models/model.pt in the service; update its card and the page's picture in docs/
	$(BIN)/python -m scripts.default_model
	$(BIN)/python -m scripts.page_picture

pull: $(VENV)/.dev  ## fetch photos and models from the DVC remote, if one is configured
	scripts/pull.sh

report: $(VENV)/.dev  ## write reports/report.html: every result of the pipeline on one page
	$(BIN)/python -m ml report

comparison: $(VENV)/.dev  ## compare parameters, data and metrics with those of the commit BASE
	PYTHON=$(BIN)/python scripts/compare.sh

# ALLOW_INCOMPARABLE=true passes a model of other classes than the latest release's, CANDIDATE=true a candidate.
gate: $(VENV)/.dev  ## decide whether models/model.pt may be released
	$(BIN)/python -m release gate $(if $(filter true,$(ALLOW_INCOMPARABLE)),--allow-incomparable) \
		$(if $(filter true,$(CANDIDATE)),--candidate)

# The scripts below read PYTHON too: there it is the interpreter of .venv, not the one that makes .venv.
check-tag: $(VENV)/.release  ## check that a release can get the tag TAG=v1.2.3
	$(BIN)/python -m release publish --check-tag --tag "$(TAG)" --target "$(GITHUB_SHA)"

publish: $(VENV)/.release  ## publish models/model.pt as release TAG=v1.2.3
	PYTHON=$(BIN)/python scripts/publish.sh

retraining-issue: $(VENV)/.release  ## open, update or close the issue about a retrained model that is not in service
	$(BIN)/python -m release issue

due: $(VENV)/.release  ## decide whether to train again since the latest release
	PYTHON=$(BIN)/python scripts/due.sh

# TARGET: docker, render, cloud-run or kubernetes.
deploy: $(VENV)/$(if $(filter cloud-run,$(TARGET)),.deploy,.serve)  ## deploy IMAGE to TARGET, test it, roll back if it fails
	$(BIN)/python -m deploy $(TARGET) --image $(IMAGE)

deploy-tools: $(VENV)/.deploy  ## create .venv with what deploys and releases: enough for the runbook, without torch

deliver: $(VENV)/.deploy  ## deploy this repository's image and latest release to every configured target
	$(BIN)/python -m deploy deliver

mlflow: $(VENV)/.dev  ## browse the training runs at http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db} --host 127.0.0.1 --port 5000

owner:  ## write your repository's name into render.yaml, deploy/ and monitoring/; from the remote origin or OWNER=me/repo
	scripts/set_owner.sh $(OWNER)

requirements: $(VENV)/.dev  ## pin requirements*.txt again after a change of pyproject.toml; UPGRADE=--upgrade for newer versions
	UV=$(BIN)/uv scripts/pin_requirements.sh $(UPGRADE)

# CONTAINER: docker or podman, whichever works. IMAGE: the tag. BUILD_FLAGS: such as --build-arg RUNTIME=torch.
CONTAINER ?= $(shell docker info >/dev/null 2>&1 || ! command -v podman >/dev/null && echo docker || echo podman)
IMAGE ?= cats-vs-dogs
BUILD_FLAGS ?=
# The repository's web address, without the credentials that a remote's URL may hold.
SOURCE_URL ?= $(shell git config --get remote.origin.url | \
	sed -n 's|^git@\([^:]*\):|https://\1/|; s|^https://[^@/]*@|https://|; s|\.git$$||; /^https:/p')

LABEL := --label org.opencontainers.image
VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' ml/model/__init__.py)
image:  ## build the service's container image
	@command -v $(firstword $(CONTAINER)) >/dev/null || { echo 'error: needs docker or podman; CONTAINER=… names another command' >&2; exit 1; }
	BUILDAH_FORMAT=docker $(CONTAINER) build --tag $(IMAGE) \
		$(LABEL).version="$(VERSION)" \
		$(LABEL).revision="$$(git rev-parse HEAD 2>/dev/null)" \
		$(LABEL).created="$$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
		$(LABEL).source="$(SOURCE_URL)" $(BUILD_FLAGS) .

# Settings are passed by name, if they are set, so that the process list shows no secret.
SETTINGS := $(filter-out HOST PORT MODEL_CACHE_DIR,$(shell sed -n 's/^| `\([A-Z0-9_]*\)` |.*/\1/p' "$(dir $(firstword $(MAKEFILE_LIST)))docs/settings.md"))
# .env is passed too, except the settings for where the container listens and writes.
run-image:  ## run that image at http://localhost:8080 with a read-only root and no privileges
	$(CONTAINER) run --rm --publish 127.0.0.1:$(PORT):8080 --read-only --tmpfs /cache \
		--cap-drop ALL --security-opt no-new-privileges $(if $(wildcard .env),--env-file .env) \
		$(foreach name,$(SETTINGS),$(if $(filter environment%,$(origin $(name))),--env $(name))) \
		--env HOST= --env PORT=8080 --env MODEL_CACHE_DIR=/cache $(RUN_FLAGS) $(IMAGE)

rehearsal: $(VENV)/.dev  ## run pipeline, release, image, deployment and rollback on this machine
	$(BIN)/python -m scripts.rehearsal

# PHOTOS: a folder or .zip with a subfolder per class; by default, parts of the two photos in tests/photos.
loop: $(VENV)/.dev  ## rehearse the loop: drift, alert, review, training, canary; writes reports/loop.html
	scripts/install_test_tools.sh
	$(BIN)/python -m scripts.loop $(if $(PHOTOS),--photos "$(PHOTOS)")

recording: $(VENV)/.dev  ## film the whole way, for the release and docs/
	scripts/install_test_tools.sh
	$(BIN)/python -m scripts.recording $(if $(PHOTOS),--photos "$(PHOTOS)")

smoke-test:  ## test a live service: make smoke-test URL=https://...
	scripts/smoke_test.sh "$(URL)"

collect: $(VENV)/.dev  ## send labelled photos to a live service: make collect SERVICE_URL=https://...
	PYTHON=$(BIN)/python scripts/collect.sh

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-19s%s\n", $$1, $$2 }' Makefile

clean:  ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis .coverage .coverage.*

# One environment, to which each target adds what it needs, at the same versions. A stamp says which files are
# installed. scripts/environment.sh removes the whole environment if it can't be completed.
INSTALL := @sh scripts/environment.sh
# Without an interpreter, as after an upgrade of the system, the stamps mean nothing.
$(shell [ -x $(BIN)/python ] || [ -x $(BIN)/python.exe ] || rm -f $(addprefix $(VENV)/.,serve release deploy dev))

$(VENV)/.serve: requirements.txt
	$(INSTALL) $^
	@touch $@

$(VENV)/.release: requirements-release.txt
	$(INSTALL) $^
	@touch $@

$(VENV)/.deploy: requirements.txt requirements-release.txt requirements-deploy.txt
	$(INSTALL) $^
	@touch $@

$(VENV)/.dev: requirements-dev.txt
	@echo 'The development environment takes several GB and some minutes; UV_TORCH_BACKEND=cpu leaves out CUDA.'
	$(INSTALL) $^
	@touch $@
