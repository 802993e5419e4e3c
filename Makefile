# The two commands that matter: `make demo` and `make test`. Everything else: `make help`.

PYTHON ?= python3
BIN := .venv/bin
DATES ?=
SESSIONS ?=
SCALE ?=
SEED ?=
PROFILE ?=
PYTEST_ARGS ?=
# Processes that share the tests; a file stays in one, so that what it builds is built once.
TEST_WORKERS ?= 2

# Compiled kernels are kept between runs; without this numba writes beside each module.
export NUMBA_CACHE_DIR ?= $(CURDIR)/.numba_cache
export DBT_PROJECT_DIR := $(CURDIR)
export DBT_PROFILES_DIR := $(CURDIR)
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-long lint docs shell bench lock contracts

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  demo takes DATES=START:END or DATES=D1,D2, SESSIONS=n, SCALE=s, SEED=n, PROFILE=default|null|planted"
	@echo "  LAKE_ROOT moves the lake (default: data/)"

# The environment is a file: it is rebuilt when the lock or the project's own metadata is newer than its stamp.
.venv/.stamp: requirements.lock pyproject.toml
	@rm -f $@
	@echo "environment: checking the machine" >&2
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else "python3 was %d.%d, expected 3.11, 3.12 or 3.13; name another with make PYTHON=python3.11" % v[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "python3 has no venv module with pip; install it with: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || { echo "libgomp.so.1 can't be loaded and LightGBM needs it; install it with: apt-get install libgomp1" >&2; exit 1; }
	@echo "environment: creating .venv" >&2
	@$(PYTHON) -m venv .venv
	@echo "environment: installing the locked packages (some minutes the first time)" >&2
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@echo "environment: installing tickhouse itself" >&2
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/.stamp ## fresh machine to a trained model: simulate, ingest, build, train, report
	@$(BIN)/tickhouse demo $(if $(DATES),--dates $(DATES)) $(if $(SESSIONS),--sessions $(SESSIONS)) \
		$(if $(SCALE),--scale $(SCALE)) $(if $(SEED),--seed $(SEED)) $(if $(PROFILE),--profile $(PROFILE))

test: .venv/.stamp ## every test, the expensive ones on a seeded sample
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m "not long" $(PYTEST_ARGS)

test-long: .venv/.stamp ## every test at the full counts
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: .venv/.stamp ## ruff, dbt-bouncer and sqlfluff
	@echo "lint: ruff" >&2
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@echo "lint: dbt-bouncer" >&2
	@mkdir -p target/lint
	@$(BIN)/dbt --quiet parse --target lint --target-path target/lint
	@COLUMNS=200 $(BIN)/dbt-bouncer --config-file dbt-bouncer.yml run
	@echo "lint: sqlfluff" >&2
	@$(BIN)/sqlfluff lint --nocolor --disable-progress-bar models $(wildcard tests/data)

docs: .venv/.stamp ## two pages: target/docs/static_index.html, every model; target/docs/lineage/index.html, every column
	@mkdir -p "$${LAKE_ROOT:-data}"
	@$(BIN)/dbt --quiet docs generate --static --target-path target/docs
	@$(BIN)/python -m lake.lineage
	@echo target/docs/static_index.html
	@echo target/docs/lineage/index.html

shell: .venv/.stamp ## DuckDB shell over the lake, read-only
	@test -f "$${LAKE_ROOT:-data}/lake.duckdb" || { echo "$${LAKE_ROOT:-data}/lake.duckdb is not there; build it with: make demo" >&2; exit 1; }
	@$(BIN)/duckdb -readonly -init .duckdbrc "$${LAKE_ROOT:-data}/lake.duckdb"

.venv/.bench-stamp: .venv/.stamp requirements-bench.lock
	@echo "environment: installing what is compared with" >&2
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

bench: .venv/.bench-stamp ## benchmarks: a table here, JSON in benchmarks/results/
	@$(BIN)/python -m benchmarks

contracts: .venv/.stamp ## write contracts/ anew from the model YAML
	@$(BIN)/python -m lake.contracts
	@$(BIN)/tickhouse contract write

# pip 23 doesn't take `name[extra]` for the pin of `name` that another package asks for: each has a plain twin.
define PLAIN_PINS
import pathlib, re, sys
lock = pathlib.Path(sys.argv[1])
pins = re.split(r"\n(?=\S)", lock.read_text().rstrip("\n"))
both = [twin for pin in pins for twin in dict.fromkeys((pin, re.sub(r"^([\w.-]+)\[[^\]]+\]==", r"\1==", pin)))]
lock.write_text("\n".join(both) + "\n")
endef
export PLAIN_PINS

lock: ## resolve requirements*.in into their locks, with hashes and without any registry's address
	@set -e; uv=$$(command -v uv || true); \
	if [ -z "$$uv" ]; then \
		scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
		$(PYTHON) -m venv "$$scratch"; "$$scratch/bin/python" -m pip install --quiet uv; uv="$$scratch/bin/uv"; \
	fi; \
	compile() { "$$uv" pip compile "$$1.in" --quiet --universal --python-version 3.11 --generate-hashes \
		--no-strip-extras --no-emit-index-url --no-header $$2 -o "$$1.lock"; }; \
	compile requirements; compile requirements-bench "--constraint requirements.lock"; \
	$(PYTHON) -c "$$PLAIN_PINS" requirements.lock
