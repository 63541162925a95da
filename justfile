# The daily commands; `just` lists them.

default:
    @just --list

# format, warnings, documentation
lint:
    ci/lint.sh

# what needs nothing but Rust
test *ARGS:
    cargo test {{ARGS}}

# how long what has a goal of speed takes
bench *ARGS:
    cargo bench --bench speed {{ARGS}}

# write the golden files again
goldens:
    UPDATE_GOLDENS=1 cargo test --test simulated --test profile --test schema --test render

# our parts against real software, as root
real *ARGS:
    K8SHA_REAL=1 cargo test --test real -- --ignored --test-threads=1 {{ARGS}}

# everything that a submission must pass
ci:
    .ci/run
