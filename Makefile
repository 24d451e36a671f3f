# What people call, and what CI calls. Rust (with rustfmt and clippy) and make are needed; `servers`, and so `test`, also
# take etcd, ZooKeeper and Consul from where the machine has them, or what builds them: Go and Maven; and nginx, HAProxy,
# nghttpx and Envoy, if they can be had.

.DEFAULT_GOAL := help
.PHONY: help quickstart servers test lint bench bench-news fuzz

# The facade's features, as Cargo.toml lists them; each must also build alone.
FEATURES := $(shell sed -n '/^\[features\]/,/^\[dependencies\]/s/^\([a-z0-9-]*\) = .*/\1/p' Cargo.toml | grep -vx default)

# Tests beside grpc-go need Go; their names say so.
WITHOUT_GO := $(if $(shell command -v go),,--skip grpc_go)

# Tests in namespaces of their own need the right to make some, and to set up what is in them; their names say so.
IN_A_NAMESPACE := ip link set lo up && mount --bind /etc/hosts /etc/hosts && echo yes
WITHOUT_NAMESPACES := $(if $(shell unshare --pid --mount --net --fork sh -c '$(IN_A_NAMESPACE)' 2>/dev/null),,--skip in_a_namespace)

# Tests behind a proxy need it; their names say so. It is looked for when `servers` has done what it can.
PROXIES := nginx haproxy nghttpx envoy
WITHOUT = $(shell for proxy in $(PROXIES); do [ -x "$(or $(CALLBOARD_SERVERS),target/servers)/bin/$$proxy" ] || echo $$proxy; done)

# Whoever is started in the background, as by nohup, ignores Ctrl-C, and so would what the tests start and interrupt.
SIGNALS := $(shell env --default-signal=INT true 2>/dev/null && echo env --default-signal=INT)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: ## watch servers join, leave and die under one client (10 s)
	cargo run --release --example quickstart

servers: ## get etcd, ZooKeeper, Consul, proxies and protoc into target/servers, for tests (6 min once, then at once)
	@tests/servers/get

test: $(if $(FAST),,servers) ## run every test, those over real registries too, and the short examples (FAST=1: only what needs no server)
	@command -v go >/dev/null || echo "go is not on PATH: tests beside grpc-go are left out, gRPC's interoperability cases with its server too; what is recorded of it is played again"
	@$(if $(WITHOUT_NAMESPACES),echo "namespaces cannot be made: tests in one are left out",true)
	@for proxy in $(WITHOUT); do echo "$$proxy cannot be had: tests behind it are left out"; done
	$(SIGNALS) cargo run --quiet --package callboard-suite -- $(if $(FAST),--fast,--include-ignored) $(WITHOUT_GO) $(WITHOUT_NAMESPACES) $(WITHOUT:%=--skip %)
ifndef FAST
	cargo test --package callboard-zookeeper --features tls --lib --test tls -- --include-ignored
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
