# What people call, and what CI calls. Rust (with rustfmt and clippy) and make are needed; `servers`, and so `test`, also
# take etcd, ZooKeeper and Consul from where the machine has them, or what builds them: Go and Maven.

.DEFAULT_GOAL := help
.PHONY: help quickstart servers test lint bench bench-news

# The facade's features, as Cargo.toml lists them; each must also build alone.
FEATURES := $(shell sed -n '/^\[features\]/,/^\[dependencies\]/s/^\([a-z0-9-]*\) = .*/\1/p' Cargo.toml | grep -vx default)

# Tests beside grpc-go need Go; their names say so.
WITHOUT_GO := $(if $(shell command -v go),,--skip grpc_go)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: ## watch servers join, leave and die under one client (10 s)
	cargo run --release --example quickstart

servers: ## get etcd, ZooKeeper, Consul and protoc into target/servers, for tests (6 min once, then at once)
	@tests/servers/get

test: servers ## run every test, those over real registries too, and the short examples, which check themselves
	@command -v go >/dev/null || echo "go is not on PATH: tests beside grpc-go are left out, what is recorded of it is played again"
	cargo test --workspace --exclude callboard-bench -- --include-ignored $(WITHOUT_GO)
	cargo test --package callboard-zookeeper --features tls --lib --test tls -- --include-ignored
	cargo run --quiet --example custom_picker
	cargo run --quiet --example custom_backend
	cargo run --quiet --example embed

bench: ## measure calls, pickers and memory beside tonic, bare HTTP/2 and grpc-go (6 min; BENCH=--quick: 1 min)
	cargo bench --package callboard-bench -- $(BENCH)
	cargo run --release --package callboard-bench --bin callboard-bench -- $(BENCH)

bench-news: servers ## measure how fast news travels over etcd, beside etcd's own watch (1 min)
	cargo run --release --package callboard-bench --bin callboard-bench-news

lint: ## check format, clippy, each feature alone and the documentation; a warning is an error
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package callboard-zookeeper --features tls --all-targets -- -D warnings
	cargo clippy --package callboard --no-default-features -- -D warnings
	@set -e; for feature in $(FEATURES); do \
		echo "cargo clippy --package callboard --no-default-features --features $$feature -- -D warnings"; \
		cargo clippy --package callboard --no-default-features --features $$feature -- -D warnings; \
	done
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
