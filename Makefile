# `make help` lists the targets. They run in .venv, with the package versions of constraints.txt.

DEVICE ?= cpu
SPACE ?= proxyless
TARGET ?= cpu
BUDGET ?= 5ms
OUT ?= runs/$(TARGET)-$(SPACE)-$(BUDGET)
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

# pip does not compile modules (--no-compile), so Python has to write .pyc files on import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install system demo profile search compare test lint bench docs dist clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "variables: DEVICE=$(DEVICE) SPACE=$(SPACE) TARGET=$(TARGET) BUDGET=$(BUDGET) PYTHON=$(PYTHON)"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev,docs,examples,gpu,mobile,pandas,report,ssh,train]'
	@touch $@

install: $(READY)  ## create .venv and install the project in it

system:  ## install the Debian packages that some tests need (adb, sshd, chromium); as root
	@for need in adb:adb openssh-server:/usr/sbin/sshd chromium:chromium; do \
	  command -v $${need#*:} >/dev/null && continue; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $${need%:*} >/dev/null; \
	  else echo "without $${need%:*} some tests are left out: apt-get install $${need%:*}"; fi; done

demo: $(READY)  ## profile this CPU, search the mini space under a budget, measure the result
	$(BIN)/lat-profile --device cpu --space mini --resume
	$(BIN)/lat-search --target cpu --space mini --budget 50% --out runs/demo --overwrite

profile: $(READY)  ## measure the operators of SPACE on DEVICE, write the table to lut_data/
	$(BIN)/lat-profile --device $(DEVICE) --space $(SPACE) --out lut_data --resume

search: $(READY)  ## search for a network of SPACE that meets BUDGET on TARGET
	$(BIN)/lat-search --target $(TARGET) --space $(SPACE) --budget $(BUDGET) --out $(OUT)

compare: $(READY)  ## compare MobileNetV2 and the published ProxylessNAS networks on TARGET
	$(BIN)/lat-compare --target $(TARGET)

test: lint system  ## what CI runs: install everything, then lint and all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder
	home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; \
	HOME=$$home PYTHONPATH=$(CURDIR)/tests/invented_machine OMP_NUM_THREADS=1 \
	  $(BIN)/pytest -m identity

lint: $(READY)  ## check format, lint, types and imports between packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## run the benchmarks, and print the results as a table
	$(BIN)/python benchmarks/run.py

docs: $(READY)  ## build the documentation into site/; a broken link or name is an error
	$(BIN)/mkdocs build --strict --quiet

dist: $(READY)  ## build wheel and sdist, and test them in new environments
	$(BIN)/python tests/check_dist.py

clean:  ## remove .venv, caches and build outputs
	rm -rf .venv build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
