# The verbs. Each installs what it needs, shows progress and is safe to run twice.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/screenshot-operator
# One target directory for all checkouts: a fresh clone does not rebuild the world.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export INSTA_UPDATE ?= no
# The flags that the cluster's programs are built with: other flags would compile Kubernetes a second time.
export GOFLAGS ?= -trimpath -buildvcs=false
export CGO_ENABLED ?= 0
CLUSTER := tests/cluster/cluster.sh
NEXTEST := cargo nextest run --locked
CRATES_UNIT := -p screenshot-policy -p screenshot-api -p capture-egress -p bench-rows -p screenshot-bench

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

.PHONY: tools
tools: ## install what the other verbs need (Debian packages, cargo-nextest)
	@hack/tools.sh

.PHONY: demo demo-down
demo: ## bring everything up on this machine and take three screenshots
	@hack/tools.sh demo
	hack/demo.sh
demo-down: ## remove all that the demo made
	@hack/demo.sh down

.PHONY: images crds chart
images: tools ## build the operator, capture and demo-site images into dist/images
	@hack/images.sh all
crds: tools ## regenerate the CRD, the chart's copies and gitops/
	@cargo run -q --locked -p screenshot-api --bin crdgen crds/screenshot-operator.io_screenshotservices.yaml
	UPDATE_SCHEMA=1 cargo test -q --locked -p screenshot-policy --lib schema
	cargo build -q --locked -p capture-jail -p screenshot-operator
	CAPTURE_JAIL=$$CARGO_TARGET_DIR/debug/capture-jail SCREENSHOT_OPERATOR=$$CARGO_TARGET_DIR/debug/screenshot-operator hack/sync-charts.sh
	$(CLUSTER) build
	export PATH=$$($(CLUSTER) path):/usr/bin:$$PATH
	hack/chart-test.sh --update
	hack/gitops.py

.PHONY: lint
lint: tools ## format, clippy, layering, shell; scanners over charts, images and the operator's plans
	@hack/step.sh "format" cargo fmt --all --check
	hack/step.sh "clippy" cargo clippy -q --locked --workspace --all-targets -- -D warnings
	hack/step.sh "layers" hack/layers.sh
	cargo fetch -q --locked
	hack/step.sh "dependencies" cargo deny --offline --log-level error check licenses bans sources
	hack/step.sh "kind" hack/kind-test.sh
	hack/step.sh "verbs" hack/verbs-test.sh
	hack/step.sh "checkers" hack/lint.sh
	hack/step.sh "shell" shellcheck -x hack/*.sh hack/lint/*.sh tests/cluster/*.sh capture-server/image/*.sh .ci/run

.PHONY: test test-unit test-images test-capture test-hostile test-chart test-gitops test-argocd test-operator test-cluster test-e2e
test: tools ## everything: lint, unit, capture server, operator, cluster, end to end
	@hack/test.sh
test-unit: tools ## pure logic: contract, resource, proxy
	@$(NEXTEST) $(CRATES_UNIT)
	cargo test -q --locked --doc -p capture-egress
test-images: images ## the images: user, labels, no shell; each font and the cache of fonts, taken away, is missed
	@if [ "$$(uname -s) $$(id -u)" = "Linux 0" ]; then hack/image-check.sh --mutate; else echo "not run: the images' check (it needs root on Linux)"; fi
test-capture: tools ## jail and capture server against real Chromium; killed processes, full disks and control groups at their limit
	@cargo build -q --locked -p capture-jail
	$(NEXTEST) -p capture-jail -p capture-server -E 'not (binary(hostile) and test(/^pages::/))'
	cargo test -q --locked --doc -p capture-server
test-hostile: tools ## hostile pages, each with a harmless capture beside it whose time is taken: nothing else may run
	@cargo build -q --locked -p capture-jail
	$(NEXTEST) -p capture-server -E 'binary(hostile) and test(/^pages::/)'
test-chart: tools ## both charts: lint, rules over every rendering, copies in sync, a real API server's word
	@renice -n 19 $$$$ >/dev/null # Nothing here is timed; what runs beside it waits for clusters and browsers.
	{ echo 19 >/proc/$$$$/autogroup; } 2>/dev/null || true # Where each session is a group of its own, the group's weight counts.
	cargo build -q --locked -p capture-jail -p screenshot-operator
	$(CLUSTER) build
	hack/lint.sh --mutate
	export PATH=$$($(CLUSTER) path):/usr/bin:$$PATH
	CAPTURE_JAIL=$$CARGO_TARGET_DIR/debug/capture-jail SCREENSHOT_OPERATOR=$$CARGO_TARGET_DIR/debug/screenshot-operator hack/chart-test.sh
	hack/chart-server-test.sh
test-gitops: tools ## what Argo CD, Flux and kustomize are given: fresh, right by their own rules
	@$(CLUSTER) build
	hack/test-gitops.sh
test-argocd: tools ## Argo CD itself, running the operator and its services from git in a real cluster
	@hack/test-argocd.sh
test-operator: tools ## plans and rotation, then the operator against a real API server
	@hack/test-operator.sh
test-cluster: tools ## the test cluster: its program, and that it works, survives a crash and leaves nothing behind
	@cd tests/site && go vet ./... && go test ./...
	cd ../cluster && tests=$$(go list ./internal/...) && go vet ./... && go test $$tests
	if [ "$$(uname -s) $$(id -u)" = "Linux 0" ]; then ./selftest.sh; else \
	  echo "not run: the rules against packets and the cluster itself (they need root on Linux)"; fi
test-e2e: tools ## the whole path in a real cluster
	@hack/test-e2e.sh

# Figures, not tests: docs/benchmarks.md says how to read them. BENCH_ARGS goes to the first, for example --quick.
# `bench` is everything, open loop and soak included; bench-capture alone is the short one.
.PHONY: bench bench-capture bench-rollout bench-operator
bench: BENCH_ARGS ?= --whole --soak 1000
bench: bench-capture bench-rollout bench-operator ## all figures: capture server and cluster
bench-capture: tools ## captures: the browser itself, the library, the HTTP service, in one run
	@hack/bench-capture.sh $(BENCH_ARGS)
bench-rollout: tools ## cluster: up, apply to first picture, changed program to new pod
	@hack/bench-rollout.sh
bench-operator: tools ## the operator: start, memory, calls, passes, beside a real API server
	@hack/bench-operator.sh

.PHONY: bench-cold bench-egress fuzz
bench-cold: ## a machine that has built nothing yet: demo and test of a fresh clone with empty caches, an hour
	@hack/bench-cold.sh
bench-egress: tools ## the proxy and the canary: what they cost, to target/bench/{egress,canary}.json
	@mkdir -p target/bench
	cargo bench -q --locked -p capture-egress --bench egress -- "$$PWD/target/bench/egress.json"
	cargo bench -q --locked -p capture-server --bench canary -- "$$PWD/target/bench/canary.json"
FUZZ_SECONDS ?= 30
fuzz: tools ## broken hosts, heads, hellos, DNS answers, policy and keyset files, the jailer's frames, FUZZ_SECONDS for each target
	@FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test -q --locked -p screenshot-policy -p capture-egress -p capture-jail --lib --test "*" fuzz_ -- --nocapture

# The suites that `make test` runs, in this order: a line after the other, what stands between bars beside one another.
# What compares the machine's settings before and after (test-cluster) has no cluster with a node beside it.
.PHONY: suites
suites:
	@echo "lint test-unit test-images test-capture | test-cluster test-argocd test-gitops test-operator"
	echo "test-hostile"
	echo "test-e2e | test-chart"
