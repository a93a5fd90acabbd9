# Deep Images Hub. `make help` says what there is; every target works offline once it has run.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-readers setup-s3 setup-k8s setup-prometheus build demo test chaos k8s-check bench
.PHONY: prometheus-check prometheus-mutations setup-deny setup-sbom deny sbom

CARGO ?= cargo
SEEDS ?= 1 2 3

help: ## print this
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r t d; do printf '%-27s %s\n' "$$t" "$$d"; done

setup: ## fetch nats-server, ONNX Runtime, the model and the demo's photos into .tools, all pinned by hash
	@tools/setup

setup-readers: ## make the Python environment with the stock readers that tests hold data sets against
	@tools/setup readers

setup-s3: ## fetch SeaweedFS, the S3 server of the tests, pinned by hash
	@tools/setup s3

setup-k8s: ## make the Python environment that `make k8s-check` runs in, pinned by hash
	@tools/setup k8s

setup-prometheus: ## fetch promtool, pinned by hash
	@tools/setup prometheus

setup-deny: ## fetch cargo-deny, pinned by hash
	@tools/setup deny

setup-sbom: ## make the Python environment that `make sbom` checks its file in, pinned by hash
	@tools/setup sbom

build: ## build the `dih` command, optimised
	$(CARGO) build --release --locked -p dih

demo: setup build ## stream a simulated crowd of devices through all stages, cut a version, train, audit
	@tools/demo.sh

prometheus-check: setup-prometheus ## hold alerts, runbooks, dashboards and the names of metrics against each other
	@tools/prometheus-check

prometheus-mutations: setup-prometheus ## break the alerts in a hundred ways, and show that the checks notice each
	@tools/prometheus-check mutations

deny: setup-deny ## hold all crates against deny.toml: licences, bans, sources, and known holes where they can be asked for
	@tools/deny

sbom: setup-sbom ## write what `dih` is made of, as CycloneDX, into target/dih.cdx.json
	@tools/sbom

test: setup setup-readers setup-s3 setup-k8s setup-deny prometheus-check ## formatting, lints, all tests, with real servers
	@tools/deny offline
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@tools/k8s-check
	$(CARGO) build --locked --workspace --features dih/failpoints
	$(CARGO) test --locked --workspace --features dih/failpoints

chaos: setup setup-readers setup-s3 ## 10,000 uploads while 200 faults strike, for each of SEEDS (1 2 3); prints where its reports are
	$(CARGO) build --locked --workspace --features dih/failpoints
	for seed in $(SEEDS); do DIH_CHAOS_SEED=$$seed DIH_CHAOS_UPLOADS=10000 DIH_CHAOS_FAULTS=200 \
	  $(CARGO) test --locked --workspace --features dih/failpoints --test chaos -- --nocapture; done

k8s-check: setup-k8s ## build the overlays below k8s/, hold them against schemas and our rules, no cluster needed
	@tools/k8s-check

bench: setup build ## measure the kernels (criterion), then decisions, speed and memory of the whole (dih bench)
	$(CARGO) bench --locked --workspace
	@tools/bench.sh
