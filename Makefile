# `make demo` shows Holdfast, `make test` tests it; both install and build what they need. `make help` lists the rest.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X github.com/holdfast-dev/holdfast/cmd/internal/cli.Version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# The plain cue command, of the version in go.mod: the demo's pre-receive hook runs it.
CUE = cuelang.org/go/cmd/cue@$(shell go list -m -f '{{.Version}}' cuelang.org/go)
# Slow tests and benchmarks are behind these; checks read them all.
TAGS := e2e,bench
# Packages with a test that needs the lab.
E2E = $(sort $(dir $(shell grep -rlE --include='*_test.go' '^//go:build .*\be2e\b' .)))
export GOTOOLCHAIN := local

.PHONY: help build test unit e2e lint fuzz bench demo man generate deps lab clean

help: ## list the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## build the three programs into bin/
	@echo "build: holdfast, holdfast-agent and holdfast-hub $(VERSION) into bin/"
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/ ./cmd/...

test: unit e2e demo ## run everything: unit tests with the race detector, end-to-end tests, the demo

unit: deps ## run the unit tests and the command tests, with the race detector
	@echo "unit: every test that needs no Kubernetes, with the race detector"
	go test -race -timeout 15m ./...

e2e: deps lab ## run the tests that need a real Kubernetes
	@echo "e2e: tests against a real Kubernetes, one package after another"
	go test -tags e2e -p 1 -count 1 -timeout 45m $(E2E)

bin/cue:
	GOBIN=$(CURDIR)/bin go install $(CUE)

demo: deps build bin/cue lab ## show it all on this machine, and check it; KEEP=1 leaves it running
	go run ./test/demo $(if $(KEEP),-keep)

lint: deps ## check format, vet, staticcheck, shell scripts and go.mod
	@echo "lint: gofmt, go vet, staticcheck, shellcheck, go mod tidy"
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt these: $$unformatted" >&2; exit 1; fi
	go vet ./...
	go vet -tags $(TAGS) ./...
	go run $(STATICCHECK) -tags $(TAGS) ./...
	.ci/shellcheck
	go mod tidy -diff

fuzz: ## run every fuzz test for ten seconds (FUZZTIME=1m: longer)
	.ci/fuzz $(or $(FUZZTIME),10s)

bench: deps build lab ## measure speed and memory, print a table and write docs/benchmarks.md
	go run ./test/bench

man: build ## write the man pages into dist/man
	@mkdir -p dist/man
	for program in holdfast holdfast-agent holdfast-hub; do bin/$$program man dist/man || exit 1; done

generate: ## write generated code and manifests again
	go generate ./...

deps: ## install the Debian packages that are missing
	@.ci/deps

lab: deps ## build Kubernetes for the lab, once (about 15 minutes on two cores)
	@go run ./test/lab/cmd/lab build

clean: ## remove what was built, and labs whose owner is gone; Kubernetes stays in ~/.cache/holdfast-lab
	rm -rf bin dist
	go run ./test/lab/cmd/lab down
