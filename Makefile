# The commands of this repository; `make` lists them. They need Go and make. `make test` runs PostgreSQL, pgbouncer, Node,
# Python, PHP, a C compiler (for -race) and systemd's tools besides, and installs those where it may: see .ci/needs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Go asks git for a version of its own, and builds nothing in a checkout that belongs to another user.
export GOFLAGS := $(strip $(shell go env GOFLAGS) -buildvcs=false)
.PHONY: demo test fuzz torture systemd-test build bench lint help needs

# How long each Go benchmark runs: make bench BENCHTIME=5s.
BENCHTIME ?= 1s
# How long make fuzz tries each of its targets: make fuzz FUZZTIME=10m.
FUZZTIME ?= 10s

demo: build ## see leads and appointments pushed, refused, retried and acknowledged, on this machine alone
	@bin/leadrelay demo

test: needs ## run all tests, on real databases and with the race detector; fuzz with 2000 tries each
	CGO_ENABLED=1 go test -race -timeout 15m ./...
	@.ci/fuzz 2000x

fuzz: ## give every parser of foreign bytes what it does not expect, for FUZZTIME each
	@.ci/fuzz $(FUZZTIME)

# In the package's folder, so that what is printed is seen while it runs. make torture TORTURE='-torture.seed 7'
torture: needs ## kill the program hundreds of times and count what is lost; under 30 minutes, ends with a table
	@rm -rf bin/torture && mkdir -p bin/torture && cd cmd/leadrelay && \
	go test -run '^TestTorture$$' -timeout 45m -torture -torture.dir "$$PWD/../../bin/torture" $(TORTURE)

# It needs root, and a Debian mirror once. One stage and what it rests on: make systemd-test STAGES='install|sandbox'
systemd-test: ## install the service under the systemd of a container, use it, break it, remove it; six minutes
	@.ci/systemd-test $(if $(STAGES),-test.run 'TestService/^($(STAGES))$$')

# A static binary; git is asked for its version where there is git.
build: ## build bin/leadrelay
	@version=$$(git describe --tags --always --dirty 2>/dev/null || echo dev); \
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$$version" -o bin/leadrelay ./cmd/leadrelay

# The parts first. The whole is not a matter of nanoseconds: one pass over its records beside a bare HTTP client.
bench: needs ## measure the parts, then the whole way from table to CRM
	go test -run '^$$' -bench . -skip EndToEnd -benchmem -benchtime $(BENCHTIME) ./...
	go test -run '^$$' -bench EndToEnd -benchtime 1x -timeout 15m ./cmd/leadrelay

lint: ## check formatting (gofumpt), go vet and staticcheck
	@unformatted=$$(go tool gofumpt -l cmd jobs sinks sources systemd); \
	if [ -n "$$unformatted" ]; then printf 'not formatted by gofumpt (go tool gofumpt -w FILE):\n%s\n' "$$unformatted" >&2; exit 1; fi
	go vet ./...
	go vet -tags booted ./systemd/booted
	go tool staticcheck ./...
	go tool staticcheck -tags booted ./systemd/booted

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

needs:
	@.ci/needs
