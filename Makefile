# `make help` lists the targets. `make check` is what CI runs.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The tests start Python hundreds of times: without cached bytecode, which some images switch off, they take a
# fifth longer.
unexport PYTHONDONTWRITEBYTECODE
# One target at a time, whatever -j says: several would install into the environment at once. Only `make check`
# makes some side by side, in a make of its own.
ifeq ($(MAKELEVEL),0)
.NOTPARALLEL:
endif

# The first Python on PATH that's new enough; PYTHON=… chooses another.
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
# The corners that `make check` runs, out of those that tox.ini lists. `make check` itself tests the oldest
# Python and Django with the newest redis-py.
CORNERS ?= py312-dj60-redis5 py313-dj61-redis7 py314-dj61-redisnew

# The peers that `make bench` compares with stay out of the development environment.
BENCH_VENV ?= .venv-bench

##@ Run it
.PHONY: demo
demo: $(VENV)/.demo ## Shows the example shop at work: real jobs, a worker, a site. ARGS=--once ends after the summary
	@$(BIN)/python example_project/manage.py demo $(ARGS)

.PHONY: test
test: $(VENV)/.test ## Runs the tests, with a Redis that they start themselves. PYTEST_ARGS="-k retry"
ifeq ($(strip $(PYTEST_ARGS)),)
	@$(BIN)/python -m pytest tests/test_cost.py # alone, so that nothing else is counted; the other tests mostly wait
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(addprefix --ignore tests/,test_cost.py test_worker test_faults test_installed chaos)
	@$(BIN)/python -m pytest -n 3 --dist loadfile tests/test_worker tests/test_faults tests/chaos
else
	@$(BIN)/python -m pytest $(PYTEST_ARGS)
endif

.PHONY: chaos
chaos: $(VENV)/.test ## Runs 100,000 jobs under all faults, and checks the judge, too: a quarter of an hour. ARGS="--seed 2"
	@$(BIN)/python -m tests.chaos --mutants
	@$(BIN)/python -m tests.chaos --setup sentinel --jobs 3000 --minutes 0.5
	@$(BIN)/python -m tests.chaos --setup cluster --jobs 3000 --minutes 0.5
	@$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: soak
soak: $(VENV)/.test ## Works for an hour, during which nothing may grow. ARGS="--minutes 5"
	@$(BIN)/python -m tests.chaos.soak $(ARGS)

##@ Check it
# Keeps the output of what's done side by side apart. macOS's own make is too old for that.
SYNC = $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: check
check: ## Checks everything that CI checks
	@$(MAKE) --no-print-directory --jobs 2 $(SYNC) environments lint types floors docs
	@$(MAKE) --no-print-directory --jobs 1 test corners package
	@echo "✓ all checks passed"

.PHONY: lint
lint: $(VENV)/.dev ## Checks style and format with ruff, and security with bandit
	@echo "→ lint"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml django_kue

.PHONY: types
types: $(VENV)/.dev ## Checks types with mypy --strict
	@echo "→ types"
	@$(BIN)/python -m mypy

.PHONY: floors
floors: $(VENV)/.dev ## Checks with import-linter that imports only point down
	@echo "→ floors"
	@$(BIN)/lint-imports --no-logo

SPHINX = $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going

.PHONY: docs
docs: $(VENV)/.dev ## Builds the documentation's site into docs/_build/site/: dead links and all warnings are errors
	@echo "→ docs"
	@$(SPHINX) docs docs/_build/site
	@$(BIN)/python .ci/check_site.py docs/_build/site

.PHONY: links
links: $(VENV)/.dev ## Checks the documentation's external links (needs the network)
	@$(SPHINX) -b linkcheck docs docs/_build/links

# What the corners leave to `make test` and `make matrix`: pages in a browser, the documentation, tests that are
# only about Redis's scripts and data, slow tests, and whatever else has little to do with the version of
# Python, Django or redis-py.
SAME_EVERYWHERE = $(addprefix --ignore tests/,test_browser test_cli test_contrib test_installed test_kue_parity test_schedules \
	test_security test_deploy_page.py test_docs.py test_demo.py test_embedded.py \
	$(addprefix test_engine/test_,mutants.py moves_model.py oldest_redis.py audit.py bounds.py damaged_keys.py foreign_data.py) \
	$(addprefix test_worker/test_,fairness.py foreign_data.py leading.py metrics.py words.py))

PRESENT = $(strip $(foreach corner,$(CORNERS),$(shell \
	python$$(echo $(corner) | sed -E 's/^py3([0-9]+)-.*/3.\1/') -c 'print("$(corner)")' 2>/dev/null)))
comma := ,
space := $(comma:,=) $(comma:,=)
TOX_ENVIRONMENTS = $(subst $(space),$(comma),$(PRESENT))

.PHONY: corners
corners: environments ## Runs the tests on the corners of the version matrix, with the Pythons that are present
	@echo "→ corners"
	@for corner in $(filter-out $(PRESENT),$(CORNERS)); do \
		echo "  $$corner: SKIPPED, its Python isn't on this machine"; done
	@test -z "$(PRESENT)" || $(BIN)/python -m tox run --skip-pkg-install -e $(TOX_ENVIRONMENTS) -- $(SAME_EVERYWHERE)

.PHONY: environments
environments: $(VENV)/.dev # Makes the corners' environments, side by side
	@echo "→ environments"
	@test -z "$(PRESENT)" || \
		$(BIN)/python -m tox run-parallel --quiet --parallel-no-spinner --notest -e $(TOX_ENVIRONMENTS)

.PHONY: matrix
matrix: $(VENV)/.dev ## Runs the tests with every supported Python, Django and redis-py (slow)
	@$(BIN)/python -m tox run

.PHONY: package
package: $(VENV)/.dev ## Builds the sdist and the wheel into dist/, and checks their contents and a fresh install of each
	@echo "→ package"
	@rm -rf build dist
	@$(BIN)/python -m build --outdir dist . >build.log 2>&1 || { cat build.log; rm -f build.log; exit 1; }
	@rm -f build.log
	@$(BIN)/python .ci/check_package.py dist
	@$(BIN)/check-wheel-contents dist
	@$(BIN)/twine check --strict dist/*
	@KUE_TEST_DIST=dist $(BIN)/python -m pytest -q -n 2 --dist loadfile --timeout 300 tests/test_installed

.PHONY: audit
audit: audit-secrets audit-fuzz audit-acl audit-packages ## Looks further than CI does (half an hour; needs the network)
	@echo "✓ nothing was found"

.PHONY: audit-secrets
audit-secrets: $(VENV)/.audit # Looks for credentials in the repository, with detect-secrets
	@echo "→ secrets"
	@git ls-files -z ':!tests' ':!*.mo' ':!*.png' ':!*package-lock.json' ':!*/uplot/*' | xargs -0 $(BIN)/detect-secrets-hook \
		--exclude-lines 'SECRET_KEY = |password@|ALPHABET = |"example": ' # placeholders in settings and pages
	@git ls-files -z tests | xargs -0 $(BIN)/detect-secrets-hook \
		--disable-plugin KeywordDetector --disable-plugin BasicAuthDetector # the tests' credentials are made up

.PHONY: audit-fuzz
audit-fuzz: $(VENV)/.audit # Feeds made-up values and bytes to the code that reads and writes stored text
	@echo "→ fuzzing"
	@KUE_TEST_EXAMPLES=10000 $(BIN)/python -m pytest -q --timeout 1200 \
		tests/test_codecs.py tests/test_security/test_fuzz.py tests/test_security/test_names.py tests/test_api/test_schema.py
	@if $(BIN)/python -c 'import atheris' 2>/dev/null; then \
		for reader in $(READERS); do $(BIN)/python tests/fuzz.py $$reader -max_total_time=60 -verbosity=0 || exit 1; done; \
	else echo "  atheris: SKIPPED, it has no wheel for this Python"; fi

READERS = arguments record error outcome

# The tests that are left out have servers or prefixes of their own, change the server's settings, or search it
# for lost keys, which that user may not do.
AS_A_USER = tests/test_engine tests/test_admin tests/test_cli tests/test_worker $(addprefix --ignore tests/,\
	test_cli/test_doctor.py test_cli/test_doctor_deep.py test_engine/test_audit.py test_engine/test_damaged_keys.py \
	test_worker/test_redis_faults.py)

.PHONY: audit-acl
audit-acl: $(VENV)/.audit # Runs tests as the worker's Redis user of docs/how-to/redis-users.md
	@echo "→ tests as a restricted Redis user"
	@KUE_TEST_ACL=kue-worker $(BIN)/python -m pytest -q -m "not slow" $(AS_A_USER)

.PHONY: audit-packages
audit-packages: $(VENV)/.audit # Looks for known vulnerabilities in what's installed, with pip-audit, which asks PyPI
	@echo "→ packages"
	@$(BIN)/python .ci/audit_packages.py

##@ Measure it
.PHONY: bench
bench: $(BENCH_VENV)/.bench benchmarks/node/node_modules/.made ## Measures what django-kue and its peers cost: half an hour, into docs/explanation/. ARGS=--quick only shows it
	@$(BENCH_VENV)/bin/python -m benchmarks.compare $(or $(strip $(ARGS)),--page)

##@ Show it
.PHONY: screenshots
screenshots: $(VENV)/.test ## Takes pictures of the admin's pages into docs/images/ (needs Chromium; six minutes)
	@$(BIN)/python docs/screenshots.py $(ARGS)

.PHONY: diagrams
diagrams: $(VENV)/.test ## Draws the pages' diagrams into docs/images/, for the site (needs npm and Chromium)
	@$(BIN)/python -m docs.diagrams

##@ Tidy
.PHONY: format
format: $(VENV)/.dev ## Formats the code and sorts its imports
	@$(BIN)/ruff check --fix --exit-zero
	@$(BIN)/ruff format

.PHONY: hooks
hooks: $(VENV)/.dev ## Makes git run the quick checks before each commit
	@$(BIN)/pre-commit install

.PHONY: clean
clean: ## Removes the environments, caches and builds; keeps what the demo made
	rm -rf $(VENV) $(BENCH_VENV) benchmarks/node/node_modules .tox build dist docs/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## Shows this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ── The environment: made once, filled again only when pyproject.toml changes ─────────────────────

# Each includes those above it, and marks them as installed, too.
$(VENV)/.demo: EXTRAS = demo,embedded,fast
$(VENV)/.test: EXTRAS = demo,embedded,fast,test
$(VENV)/.test: ABOVE = .demo
$(VENV)/.dev: EXTRAS = dev
$(VENV)/.dev: ABOVE = .demo .test
$(VENV)/.audit: EXTRAS = audit
$(VENV)/.audit: ABOVE = .demo .test .dev

$(VENV)/.demo $(VENV)/.test $(VENV)/.dev $(VENV)/.audit: pyproject.toml $(VENV)/.made
	@echo "→ installing django-kue[$(EXTRAS)] into $(VENV) (a minute the first time)"
	@$(PIP) install --editable '.[$(EXTRAS)]'
	@touch $(addprefix $(VENV)/,$(ABOVE)) $@

$(BENCH_VENV)/.bench: pyproject.toml benchmarks/requirements.txt
	@$(MAKE) --no-print-directory VENV=$(BENCH_VENV) $(BENCH_VENV)/.made
	@echo "→ installing the peers into $(BENCH_VENV) (a minute the first time)"
	@$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet install \
		--editable '.[embedded,fast]' --requirement benchmarks/requirements.txt
	@touch $@

benchmarks/node/node_modules/.made: benchmarks/node/package.json
	@mkdir -p $(@D)
	@if command -v npm >/dev/null; then cd benchmarks/node && npm ci --silent --no-audit --no-fund; \
		else echo "There's no npm on this machine, so the peers for Node.js take no part."; fi
	@touch $@

$(VENV)/.made:
	@test -n "$(PYTHON)" || { \
		echo "django-kue needs Python 3.11 or newer, and there's none on PATH." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' || { \
		echo "django-kue needs Python 3.11 or newer; $(PYTHON) isn't." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) can't make virtual environments: it lacks ensurepip." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv (as root), then try again." >&2; exit 1; }
	@echo "→ making a virtual environment in $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@
