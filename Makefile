# What people call, and what CI calls. Rust (with rustfmt and clippy) and make are needed; `servers`, and so `test`, also
# take etcd, ZooKeeper and Consul from where the machine has them, or what builds them: Go and Maven; and nginx, HAProxy,
# nghttpx and Envoy, if they can be had.

.DEFAULT_GOAL := help
.PHONY: help quickstart servers test lint fuzz supply releasable bench bench-news

# The facade's features, as Cargo.toml lists them; each must also build alone.
FEATURES := $(shell sed -n '/^\[features\]/,/^\[dependencies\]/s/^\([a-z0-9-]*\) = .*/\1/p' Cargo.toml | grep -vx default)

# Where `make servers` puts them.
SERVERS = $(or $(CALLBOARD_SERVERS),$(CURDIR)/target/servers)
# Go and Java, if the machine has none and ALL=1 has brought them.
export PATH := $(PATH):$(SERVERS)/toolchain/go/bin:$(SERVERS)/toolchain/java/bin

# Whoever is started in the background, as by nohup, ignores Ctrl-C, and so would what the tests start and interrupt.
SIGNALS := $(shell env --default-signal=INT true 2>/dev/null && echo env --default-signal=INT)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: ## watch servers join, leave and die under one client (10 s)
	cargo run --release --example quickstart

servers: ## get etcd, ZooKeeper, Consul, proxies and protoc into target/servers, for tests (6 min once, then at once; ALL=1: Go and Java too)
	@tests/servers/get $(if $(ALL),all)

test: ## run every test, those over real registries too, and the short examples (FAST=1: only what needs no server, in 2 min)
ifdef FAST
	$(SIGNALS) cargo run --quiet --package callboard-suite -- --fast
else
	@tests/servers/get || $(if $(filter true,$(CI)),exit 1,echo "what is missing is left out")
	$(SIGNALS) cargo run --quiet --package callboard-suite
	if [ -e $(SERVERS)/zookeeper/lib ]; then cargo test --package callboard-zookeeper --features tls --lib --test tls -- --include-ignored; fi
	cargo run --quiet --example custom_picker
	cargo run --quiet --example custom_backend
	cargo run --quiet --example embed
endif

bench: ## measure calls, pickers and memory beside tonic, bare HTTP/2 and grpc-go (6 min; BENCH=--quick: 1 min)
	cargo bench --package callboard-bench -- $(BENCH)
	cargo run --release --package callboard-bench --bin callboard-bench -- $(BENCH)

bench-news: servers ## measure how fast news travels over etcd, beside etcd's own watch (1 min)
	cargo run --release --package callboard-bench --bin callboard-bench-news

fuzz: ## fuzz what strangers write, each target for a minute (MINUTES=10, TARGET=records)
	MINUTES=$(MINUTES) fuzz/run $(TARGET)

lint: ## check format, clippy, each feature alone and the documentation; a warning is an error
	cargo fmt --all -- --check
	cargo fmt --manifest-path fuzz/Cargo.toml -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package callboard-zookeeper --features tls --all-targets -- -D warnings
	cargo clippy --package callboard --no-default-features -- -D warnings
	@set -e; for feature in $(FEATURES); do \
		echo "cargo clippy --package callboard --no-default-features --features $$feature -- -D warnings"; \
		cargo clippy --package callboard --no-default-features --features $$feature -- -D warnings; \
	done
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

supply: ## check licences and faults of dependencies, packages, oldest versions and oldest Rust (20 min once, then 4)
	@tests/supply/check

releasable: ## the same, and what a person has to settle before a release; what cannot be checked is a failure
	@STRICT=1 tests/supply/check release deny advisories packages msrv minimal
