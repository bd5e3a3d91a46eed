# Targets with a "## " comment are listed by `make`.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory

GO      ?= go
# Without a tag the programs call themselves what their sources say.
VERSION ?= $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null | sed 's/^v//')
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS := -s -w $(if $(VERSION),-X main.version=$(VERSION)) $(if $(COMMIT),-X main.commit=$(COMMIT))

# How long each fuzz target runs in `make fuzz`.
FUZZTIME ?= 10s
# More arguments for go test, as in: make test ARGS='-run Store -v'
ARGS ?=

.PHONY: help build test lint bench bench-sanity demo demo-down e2e e2e-v2 e2e-net man package cover fuzz clean tools
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## compile every program into bin/
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

test: build ## install what is missing (as root) and run every test, real containerd included
	@e2e/install.sh test
	$(GO) test -timeout 15m $(ARGS) ./...

e2e: ## Debian machines that boot, with the package installed: restarts, power cuts, partitions, upgrades (root)
	@e2e/install.sh machines
	AGENTD_TEST_REQUIRE=$${AGENTD_TEST_REQUIRE-root,nspawn,exporter} $(GO) test -count=1 -timeout 20m -parallel 4 -v $(ARGS) ./e2e/machines

e2e-v2: ## the package on a kernel with cgroup version 2 only, in QEMU; takes minutes (root)
	@e2e/install.sh qemu
	AGENTD_TEST_REQUIRE=root,qemu $(GO) test -count=1 -timeout 40m -v $(ARGS) ./e2e/v2

e2e-net: build ## only the tests with whole agents on a small network (root)
	@e2e/install.sh test
	AGENTD_TEST_REQUIRE=$${AGENTD_TEST_REQUIRE-root,containerd,netns,nft,bin} $(GO) test -count=1 -timeout 15m -v $(ARGS) ./e2e/

lint: ## gofmt, go vet, golangci-lint and, where installed, shellcheck
	@e2e/lint.sh

bench: build ## measure against containerd's own floor; fails beyond 1.5 times a limit (root)
	@e2e/install.sh bench
	$(GO) run ./e2e/bench

bench-sanity: build
	@e2e/install.sh bench
	$(GO) run ./e2e/bench -short

demo: build ## a ring of four machines on this one, step by step; DEMO_ONCE=1 for one round (root)
	@e2e/install.sh demo
	@$(GO) build -buildvcs=false -o bin/demo ./e2e/demo
	@exec bin/demo

demo-down: ## remove what an interrupted demo left (root)
	@$(GO) build -buildvcs=false -o bin/demo ./e2e/demo
	@exec bin/demo -down

man: ## write docs/man anew from the commands, docs/daemon.md and configs/agentd.toml
	$(GO) test -count=1 ./cmd/agentctl ./packaging/man -run 'Fresh$$' -update

package: ## dist/*.deb and dist/*.rpm for amd64 and arm64; the same commit gives the same bytes
	@GO='$(GO)' VERSION='$(VERSION)' LDFLAGS='$(LDFLAGS)' packaging/build.sh

cover: build ## tests with coverage, summed up per package in cover.out
	@e2e/install.sh test
	$(GO) test -timeout 15m -coverprofile=cover.out -coverpkg=./... ./...
	$(GO) tool cover -func=cover.out | tail -n 1

fuzz: ## every fuzz target for FUZZTIME (10s)
	@e2e/fuzz.sh $(FUZZTIME)

clean: ## remove what make has built
	rm -rf bin dist cover.out

# How many faults strike in `make chaos`, from which seed (0: a new one), and
# against which containerd: the system's, or SERVER=newest.
FAULTS ?= 2000
SEED   ?= 0
SERVER ?=

# How many states of each small ring make model looks at.
STATES ?= 8000000

.PHONY: model
model: ## every interleaving of small rings in a rolling update, up to STATES (8000000) each
	$(GO) test ./agent/rollout -run 'TestModel$$' -count=1 -timeout 6h -v -args -model.states=$(STATES) | grep -E 'states|FAIL|ok|^ +[a-z]'

.PHONY: chaos
chaos: ## injure one node's agent, containerd, shims and programs at random (root)
	@e2e/install.sh bench
	AGENTD_TEST_REQUIRE=root,containerd $(GO) test ./e2e/chaos -run 'TestChaos$$' -count=1 -timeout 120m -v -args -chaos.faults=$(FAULTS) -chaos.seed=$(SEED) -chaos.server=$(SERVER)

# How many storms make simulate lets pass over rings of how many agents, and from
# which seed on.
SEEDS ?= 300
NODES ?= 100
FIRST ?= 1

.PHONY: simulate
simulate: ## storms over SEEDS (300) simulated rings of NODES (100) whole agents, from seed FIRST (1)
	$(GO) test ./agent -run 'TestSimulate$$' -count=1 -timeout 0 -v -args -sim.seeds=$(SEEDS) -sim.nodes=$(NODES) -sim.seed=$(FIRST)
