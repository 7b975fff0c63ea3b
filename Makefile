# Everything is built into .venv and target/; a second run does only what has changed.
VENV := .venv
PY := $(VENV)/bin/python
SOURCES := $(shell find engine -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml

.PHONY: build check test bench clean

build: $(VENV)/.built

$(VENV)/.deps: requirements/dev.txt
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

$(VENV)/.built: $(VENV)/.deps $(SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/maturin develop --release --quiet
	touch $@

check: build
	$(VENV)/bin/ruff format --check src tests bench
	$(VENV)/bin/ruff check src tests bench
	$(VENV)/bin/mypy
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings

test: check
	cargo test --quiet --workspace
	$(PY) -m pytest

# Figures, full size: about half an hour, root, 30 GB of disk. `make bench ARGS="warm cold --quick"` for a look.
bench: build
	PYTHONPATH=$(CURDIR)/src:$(CURDIR) $(PY) -m bench $(ARGS)

clean:
	rm -rf $(VENV) target .cache
