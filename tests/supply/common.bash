# What the scripts share that check one thing each. They have set `name` and `here`.
# shellcheck shell=bash disable=SC2154

set -uo pipefail
trap 'exit 130' HUP INT TERM

root=${here%/tests/supply}
cd "$root" || exit
# Where these checks build: what is built here has other versions, or is built by another compiler, than all else.
work=$root/target/supply
mkdir -p "$work" || exit
PATH=$root/target/tools/bin:$PATH

say() {
    echo "$name: $*"
}

passed() {
    say "passed: $*"
    exit 0
}

fail() {
    say "FAILED: $*" >&2
    exit 1
}

# WHY: ends the script, for a check whose tool or data cannot be had. It has not passed.
not_run() {
    say "NOT RUN: $*" >&2
    exit 2
}

# KEY: its value in the workspace's manifest, which all crates inherit.
workspace_value() {
    sed -n '/^\[workspace.package\]/,/^\[workspace.dep/s/^'"$1"' = "\(.*\)"/\1/p' Cargo.toml
}

# The crates that are published: those whose manifest does not say otherwise.
published() {
    git ls-files '*Cargo.toml' | xargs grep -L '^publish = false' |
        xargs sed -n '/^\[package\]/,/^$/s/^name = "\(.*\)"/\1/p'
}

# TOOL VERSION: sees to it that `cargo TOOL` works. One that the machine has is good enough.
need() {
    command -v "cargo-$1" >/dev/null && return
    say "getting cargo-$1 $2 into target/tools, which takes some minutes once"
    cargo install --quiet --locked --root target/tools "cargo-$1@$2" || not_run "cargo-$1 cannot be had"
}
