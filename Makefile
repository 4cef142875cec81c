# Wisp. `make help` lists the targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

HOSTS   ?= 1
ROUTER  ?= host
BIN     ?= bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOL    := go tool -modfile=packaging/tools/go.mod

# Every program of the product and of the test bed.
PROGRAMS = $(wildcard coordinator/cmd/* agent/cmd/* netsvc/cmd/* systemvm/cmd/* packaging/*/cmd/*)

M := github.com/wispcloud/wisp

# Tests that boot guests or whole hosts.
LABS  = $(sort $(shell go list ./packaging/lab/... ./packaging/sandbox/... ./packaging/e2e/... ./images/... ./systemvm/systemvmtest/...) \
	$(addprefix $(M)/,$(shell git grep -lE '"$(M)/packaging/(lab|sandbox)"' -- '*_test.go' | xargs -n1 dirname | sort -u)))
# Tests of several processes that watch each other's clocks.
TIMED = $(shell go list ./coordinator/simtest/... ./coordinator/internal/server/... ./coordinator/internal/replica/... ./netsvc/cmd/...)
# Both run alone, one package at a time: two emulated guests on two cores make
# every deadline of a third one late.
ALONE = $(sort $(LABS) $(TIMED))
LIGHT = $(filter-out $(ALONE),$(shell go list ./...))
# Where goroutines share state.
RACE  = $(filter-out $(LABS) $(M)/netsvc/cmd/%,$(shell go list ./coordinator/... ./agent/... ./netsvc/...))

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install the Debian packages that sandbox and test need (root)
	@go run ./packaging/deps

.PHONY: deps-sandbox
deps-sandbox:
	@go run ./packaging/deps -sandbox

.PHONY: build
build: ## build the static programs into bin/
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ $(addprefix ./,$(PROGRAMS))

.PHONY: images
images: ## build the guest and system-VM images into bin/images/
	@mkdir -p $(BIN)/images && rm -f $(BIN)/images/systemvm-*
	@go run ./images/cmd/wisp-image build tinyguest -o $(BIN)/images
	@go run ./images/cmd/wisp-image build systemvm -o $(BIN)/images -version $(VERSION)

.PHONY: sandbox
sandbox: deps-sandbox build ## a cloud with a running VM on this machine (HOSTS=1..3, ROUTER=host or vm)
	@bin/wisp-sandbox up -hosts $(HOSTS) -router $(ROUTER)

.PHONY: sandbox-down
sandbox-down: ## remove everything of the sandbox
	@go run ./packaging/sandbox/cmd/wisp-sandbox down

.PHONY: proto
proto: ## lint the contract and generate its Go
	$(TOOL) buf lint
	$(TOOL) buf generate

.PHONY: proto-current
proto-current: ## the committed Go is that of the contract
	@tmp=$$(mktemp -d) && trap 'rm -rf $$tmp' EXIT && $(TOOL) buf generate -o $$tmp && \
	for f in $$(cd $$tmp && find . -name '*.pb.go'); do \
		diff -u $$f $$tmp/$$f || { echo "$$f is not what make proto generates"; exit 1; }; done

.PHONY: fmt
fmt: ## format all Go
	$(TOOL) gofumpt -w $(shell git ls-files '*.go' | grep -v '\.pb\.go$$')

.PHONY: lint
lint: ## the import rules of the house, and the usual mistakes
	$(TOOL) golangci-lint run --timeout 15m ./...
	$(TOOL) buf lint
	go test ./packaging/lint/...

.PHONY: tidy
tidy: ## go mod tidy changes nothing
	go mod tidy -diff
	cd packaging/tools && go mod tidy -diff && go mod verify >/dev/null

.PHONY: race
race: ## tests under the race detector
	@failed=0; \
	go test -race -p 2 -timeout 20m $(filter-out $(TIMED),$(RACE)) || failed=1; \
	go test -race -p 1 -timeout 20m $(filter $(TIMED),$(RACE)) || failed=1; \
	exit $$failed

.PHONY: check
check: lint proto-current tidy race ## format, lint, tidy and race

.PHONY: test-light
test-light: ## unit, property, namespace tests
	go test -p 2 -timeout 15m $(LIGHT)

.PHONY: test-heavy
test-heavy: build ## tests with real guests, hosts, clusters
	go test -p 1 -count=1 -timeout 35m $(ALONE)

.PHONY: test
test: deps build ## what CI runs
	@failed=; for part in test-light race test-heavy; do \
		$(MAKE) $$part || failed="$$failed $$part"; done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
