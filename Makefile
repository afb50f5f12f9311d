# make         set up, then the main job: train, score and tabulate the suite that config/config.yaml names
# make setup   only the environment, in .venv           make smoke    the smallest suite, with its regression gate
# make test    the tests                                make format   rewrite the code in the house's style
# make lint    style, workflow, committed results       make lock     resolve requirements.lock anew (needs uv)
#
# Any Python 3.11 to 3.13 will do; to choose one: make PYTHON=/path/to/python3.12

PYTHON ?= python3 python3.13 python3.12 python3.11 python
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.PHONY: run setup test lint smoke format lock clean
.NOTPARALLEL:

run: setup
	$(BIN)/snakemake --cores all

setup: $(INSTALLED)

test: setup
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/python -m evaluation.records check

smoke: setup
	$(BIN)/snakemake --cores all --config suite=smoke

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

# One version of each package for every Python and platform, so that numbers compare between machines.
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --fork-strategy fewest --upgrade \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  --quiet --output-file requirements.lock

# The environment and caches; what was trained and scored (runs/, results/) stays.
clean:
	rm -rf $(VENV) *.egg-info build .pytest_cache .ruff_cache

# A .venv whose Python has gone, after an upgrade of the system, is as good as none.
$(shell test -x $(BIN)/python || rm -f $(LOCKED))

# The stamp says that the lock is installed whole. With it an environment is brought up to date in place; without it (a
# fresh clone, an interrupted set-up) a new one is made.
$(LOCKED): requirements.lock
	@if [ -e $@ ]; then rm $@; else $(new_venv); fi
	$(PIP) install --require-hashes -r requirements.lock
	@touch $@

# The project itself, editable, built without network by the locked setuptools.
$(INSTALLED): pyproject.toml $(LOCKED)
	$(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $@

# The first suitable Python, seen through whatever environment is active, makes .venv.
define new_venv
for python in $(PYTHON); do \
  base=$$("$$python" -c 'import sys; print(sys._base_executable if (3, 11) <= sys.version_info < (3, 14) else "")' \
    2>/dev/null) && [ -n "$$base" ] || continue; \
  found=$$base; "$$base" -c 'import ensurepip, venv' 2>/dev/null || continue; \
  echo "Making $(VENV) with $$base: about 3 GB to download, 6 GB on disk, some minutes"; \
  "$$base" -m venv --clear $(VENV); exit; \
done; \
if [ -n "$$found" ]; then \
  echo "error: $$found lacks venv: install it (Debian, Ubuntu: apt install python3-venv), then type make again" >&2; \
else \
  echo "error: no Python 3.11 to 3.13 (tried: $(PYTHON)): install one, or name it: make PYTHON=/path/to/python3" >&2; \
fi; \
exit 1
endef
