# `make help` lists the targets. `make check` is what CI runs.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# The first Python on PATH that's new enough; PYTHON=… takes another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c '$(NEW_ENOUGH)' 2>/dev/null && echo "$$python" && break; done)
endif

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# ARGS goes to the demo, PYTEST_ARGS to pytest (`make test PYTEST_ARGS="-x -k retry"`).
ARGS ?=
PYTEST_ARGS ?=
# The corners that `make check` runs, of all that tox.ini lists. `make check` itself tests the oldest
# Python and Django with the newest redis-py.
CORNERS ?= py312-dj60-redis5 py313-dj61-redisnew py314-dj61-redisnew

##@ Run it
.PHONY: demo
demo: $(VENV)/.demo ## The example shop at work: real jobs, a worker, a site. ARGS=--once ends after the summary
	@$(BIN)/python example_project/manage.py demo $(ARGS)

.PHONY: test
test: $(VENV)/.test ## The tests, with a Redis that they start themselves. PYTEST_ARGS="-k retry"
ifeq ($(strip $(PYTEST_ARGS)),)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/test_worker
	@$(BIN)/python -m pytest tests/test_worker # alone: some judge a worker by its times
else
	@$(BIN)/python -m pytest $(PYTEST_ARGS)
endif

##@ Check it
.PHONY: check
check: lint types floors test corners package ## All that CI checks
	@echo "✓ all checks passed"

.PHONY: lint
lint: $(VENV)/.dev ## Style and format, by ruff
	@echo "→ lint"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

.PHONY: types
types: $(VENV)/.dev ## Types, by mypy --strict
	@echo "→ types"
	@$(BIN)/python -m mypy

.PHONY: floors
floors: $(VENV)/.dev ## Imports only point down, by import-linter
	@echo "→ floors"
	@$(BIN)/lint-imports --no-logo

.PHONY: corners
corners: $(VENV)/.dev ## The tests on the version matrix's corners, on the Pythons that are present
	@echo "→ corners"
	@present=; for corner in $(CORNERS); do \
		python=$$(echo "$$corner" | sed -E 's/^py3([0-9]+)-.*/python3.\1/'); \
		if "$$python" -c '' 2>/dev/null; then present="$$present,$$corner"; \
		else echo "  $$corner: SKIPPED, there's no $$python on this machine"; fi; \
	done; \
	if [ -n "$$present" ]; then $(BIN)/python -m tox run -e "$${present#,}"; fi

.PHONY: matrix
matrix: $(VENV)/.dev ## The tests on every Python, Django and redis-py that's supported (slow)
	@$(BIN)/python -m tox run

.PHONY: package
package: $(VENV)/.dev ## Builds the sdist and the wheel into dist/, and checks what's in them
	@echo "→ package"
	@rm -rf build dist
	@$(BIN)/python -m build --outdir dist . >build.log 2>&1 || { cat build.log; rm -f build.log; exit 1; }
	@rm -f build.log
	@$(BIN)/python .ci/check_package.py dist

##@ Show it
.PHONY: screenshots
screenshots: $(VENV)/.test ## Pictures of the admin's pages into docs/images/ (needs Chromium; six minutes)
	@$(BIN)/python docs/screenshots.py $(ARGS)

##@ Tidy
.PHONY: format
format: $(VENV)/.dev ## Formats the code and sorts its imports
	@$(BIN)/ruff check --fix --exit-zero
	@$(BIN)/ruff format

.PHONY: hooks
hooks: $(VENV)/.dev ## Makes git run the quick checks before each commit
	@$(BIN)/pre-commit install

.PHONY: clean
clean: ## Removes the environment, caches and builds; what the demo made stays
	rm -rf $(VENV) .tox build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ── The environment: made once, filled again only when pyproject.toml changes ─────────────────────

$(VENV)/.demo: EXTRAS = demo,embedded,fast
$(VENV)/.test: EXTRAS = demo,embedded,fast,test
$(VENV)/.dev: EXTRAS = dev

$(VENV)/.demo $(VENV)/.test $(VENV)/.dev: pyproject.toml $(VENV)/.made
	@echo "→ installing django-kue[$(EXTRAS)] into $(VENV) (a minute the first time)"
	@$(PIP) install --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.made:
	@test -n "$(PYTHON)" || { \
		echo "django-kue needs Python 3.11 or newer, and there's none on PATH." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' || { \
		echo "django-kue needs Python 3.11 or newer; $(PYTHON) isn't." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) can't make virtual environments: it lacks ensurepip." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv (as root), then once more." >&2; exit 1; }
	@echo "→ making a virtual environment in $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@
