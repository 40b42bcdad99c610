# make demo, make test: all that is needed is Python 3.11 or newer, and make.

PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$candidate" && break; done)
VENV := .venv
JOBS ?= 2

CREATED := $(VENV)/.created
INSTALLED := $(VENV)/.installed

.PHONY: help demo test test-vendors lint types pytest venv deps clean

help:
	@echo "make demo   compile the example model for a Cortex-A76, run it on its test images, compare"
	@echo "make test   ruff, mypy and all tests (JOBS=$(JOBS) processes)"
	@echo "make test-vendors   the tests of vendors' tools: make vendor-rknn vendor-qnn installs these (0.7 and 0.6 GB)"
	@echo "make venv   only the environment in $(VENV), with edgecc installed in place"
	@echo "make deps   install (as root, where there is apt-get) or name the system packages that are missing"
	@echo "make clean  remove $(VENV), caches and build folders"

demo: $(INSTALLED)
	$(VENV)/bin/python examples/digits/demo.py

test: lint types pytest

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .

types: $(INSTALLED)
	$(VENV)/bin/mypy

# The test run is the last step, so its summary is the last line of the output.
pytest: $(INSTALLED) lint types
	$(VENV)/bin/python -m pytest -n $(JOBS)

# Tools of vendors live in environments of their own; what is not installed is skipped, and said so.
vendor-%: $(INSTALLED)
	$(VENV)/bin/edgecc install $*

test-vendors: $(INSTALLED)
	$(VENV)/bin/python -m pytest -rs tests/backends/rknn tests/backends/qnn

venv: $(INSTALLED)

# Made anew when it is missing, kept when only the dependencies changed.
$(CREATED):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it with make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(INSTALLED): $(CREATED) pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev,zig,tvm]'
	@# Its pins are older than what other packages want; it works with newer ones.
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps 'tosa-tools==2026.8.0'
	@touch $@

# Without these everything still works: zig from the wheel compiles, and what cannot be emulated runs on the host.
deps:
	@missing=""; \
	command -v qemu-aarch64 >/dev/null || command -v qemu-aarch64-static >/dev/null || missing="$$missing qemu-user"; \
	command -v aarch64-linux-gnu-gcc >/dev/null || missing="$$missing gcc-aarch64-linux-gnu libc6-dev-arm64-cross"; \
	command -v gcc >/dev/null || missing="$$missing gcc libc6-dev"; \
	if [ -z "$$missing" ]; then echo "emulator and compilers are installed"; \
	elif ! command -v apt-get >/dev/null; then echo "not installed (Debian's names):$$missing"; \
	elif [ "$$(id -u)" != 0 ]; then echo "run: sudo apt-get install$$missing"; \
	else apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; fi

clean:
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
