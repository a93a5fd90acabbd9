# Deep Images Hub. `make help` says what there is; every target works offline once it has run.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-readers setup-s3 setup-k8s build demo test k8s-check bench

CARGO ?= cargo

help: ## print this
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r t d; do printf '%-20s %s\n' "$$t" "$$d"; done

setup: ## fetch nats-server, ONNX Runtime, the model and the demo's photos into .tools, all pinned by hash
	@tools/setup

setup-readers: ## make the Python environment with the stock readers that tests hold data sets against
	@tools/setup readers

setup-s3: ## fetch SeaweedFS, the S3 server of the tests, pinned by hash
	@tools/setup s3

setup-k8s: ## make the Python environment that `make k8s-check` runs in, pinned by hash
	@tools/setup k8s

build: ## build the `dih` command, optimised
	$(CARGO) build --release --locked -p dih

demo: setup build ## stream a simulated crowd of devices through all stages, cut a version, train, audit
	@tools/demo.sh

test: setup setup-readers setup-s3 setup-k8s ## formatting, lints, all tests, with real servers
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@tools/k8s-check
	$(CARGO) build --locked --workspace --features dih/failpoints
	$(CARGO) test --locked --workspace --features dih/failpoints

k8s-check: setup-k8s ## build the overlays below k8s/, hold them against schemas and our rules, no cluster needed
	@tools/k8s-check

bench: setup build ## measure the kernels (criterion), then decisions, speed and memory of the whole (dih bench)
	$(CARGO) bench --locked --workspace
	@tools/bench.sh
