# What people and CI run. All of it uses the one release profile, so that RocksDB's C++ is built once
# (docs/decisions/0002-one-release-profile.md).

CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR

# scripts/setup leaves here where libclang is, when the system has none.
cargo = . $(CARGO_TARGET_DIR)/setup.env && cargo

.PHONY: help setup build run cluster simulate test check fix bench

help: ## what can be asked
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: ## installs what cargo cannot fetch; quick when all is there
	@scripts/setup

# The whole workspace is named throughout, so that all of these build the same dependencies with the same features.
build: setup ## target/release/rialto
	@$(cargo) build --release --locked --workspace --bin rialto

run: build ## a node with demo symbols, accounts and a live market; ARGS="--help" shows its settings
	@$(CARGO_TARGET_DIR)/release/rialto demo $(ARGS)

cluster: build ## three such nodes that are one venue, on ports 8081 to 8083; Ctrl-C stops them
	@scripts/cluster $(CARGO_TARGET_DIR)/release/rialto

simulate: ## the cluster in simulation; SEEDS=20000 for more of it, SEED=7 for that one
	@RIALTO_SEEDS=$(or $(SEEDS),1000) $(if $(SEED),RIALTO_SEED=$(SEED)) $(cargo) test --release --locked -p journal no_fault_breaks -- --nocapture

# Some tests and benchmarks run the binary.
test: build ## every test; ARGS="name" runs those of that name
	@scripts/setup tests
	@$(cargo) test --release --locked --workspace --no-fail-fast $(if $(ARGS),-- $(ARGS))

check: setup ## the gate: formatting, lints, documentation; changes nothing
	@$(cargo) fmt --all --check
	@$(cargo) clippy --release --locked --workspace --all-targets -- -D warnings
	@. $(CARGO_TARGET_DIR)/setup.env && RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --workspace --no-deps

fix: setup ## formats, and applies what the lints can apply
	@$(cargo) fmt --all
	@$(cargo) clippy --release --workspace --all-targets --fix --allow-dirty --allow-staged
	@$(cargo) fmt --all

bench: build ## the measurements of benches/; tables, and JSON lines in target/bench.jsonl
	@$(cargo) bench --locked --workspace --bench '*'
	@$(cargo) run --release --locked -p benches --bin journal
