.POSIX:
# Everything happens in $(VENV), which is made once, and again whenever requirements-dev.txt changes.
PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/installed
TERRAFORM_VENV = .venv-terraform
TERRAFORM_INSTALLED = $(TERRAFORM_VENV)/installed
# For `make etl`, `make test`, `make faults`: further arguments, such as ARGS=--dry-run or ARGS="-k postgres".
ARGS =
# For `make fuzz`: how many examples of each kind of input.
EXAMPLES = 100000
# For `make increments`: how many histories of an upstream whose sales are kept.
HISTORIES = 3000
# And how many with the sales in BigQuery, whose emulator is slow.
BIGQUERY_HISTORIES = 500
# For `make serve`: no serves the bare function, with only what the environment names.
SANDBOX = yes
# For `make requirements`: --upgrade takes the newest versions instead of keeping those that still fit.
UPGRADE =

.PHONY: help run serve screenshot etl test test-fast fuzz increments faults bench lint format requirements clean

help:
	@echo "make run           the whole pipeline once, on real parts on this machine; shows what was loaded"
	@echo "make serve         the same parts and the function, until Ctrl-C; SANDBOX=no: the function alone"
	@echo "make screenshot    the report page's picture in docs/, from the sandbox; needs Chromium"
	@echo "make etl           one run against what the environment names; ARGS=--dry-run, ARGS=--force"
	@echo "make test          linters, types and all tests; ARGS=\"-k NAME\" for some of them"
	@echo "make test-fast     the unit tests alone, in seconds"
	@echo "make fuzz          random input, until something gives; EXAMPLES=1000, ARGS=\"-k settings\""
	@echo "make increments    3,000 histories of kept sales, 500 in BigQuery; HISTORIES=200"
	@echo "make faults        1,600 faults against real processes; ARGS=\"--count 60 --seed 2\", ARGS=\"--only ID\""
	@echo "make bench         time and memory against what this machine can do; ARGS=\"--rows 1a,2 --scale 0.1\""
	@echo "make lint, format  the linters and types alone; make the code look as they want it"
	@echo "make requirements  compile requirements*.in into requirements*.txt; UPGRADE=--upgrade"
	@echo "make clean         delete what the others made"
	@echo "PYTHON=python3.13 chooses the Python (3.11 or newer), VENV=DIR where the environment is made."

run: $(INSTALLED)
	@$(BIN)/python -m tests.sandbox run

serve: $(INSTALLED)
	@$(BIN)/python -m tests.sandbox serve --sandbox $(SANDBOX)

screenshot: $(INSTALLED)
	@$(BIN)/python -m tests.sandbox.screenshot docs/report.png

etl: $(INSTALLED)
	@$(BIN)/python -m etl $(ARGS)

# Both cores; a module's tests share its processes, so they stay together. The modules come in the order of
# tests/conftest.py: xdist would begin with those that have many tests, not with those that take long.
test: lint $(TERRAFORM_INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 tests/unit $(ARGS)

fuzz: $(INSTALLED)
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest --numprocesses 2 tests/evidence/test_fuzz.py $(ARGS)

increments: $(INSTALLED)
	INCREMENTS=$(HISTORIES) INCREMENTS_IN_BIGQUERY=$(BIGQUERY_HISTORIES) $(BIN)/python -m pytest --numprocesses 2 --timeout 7200 tests/evidence/test_increments.py \
	  -k comes_out $(ARGS)

faults: $(INSTALLED)
	@$(BIN)/python -m tests.evidence.faults $(ARGS)

bench: $(INSTALLED)
	@$(BIN)/python -m tests.evidence.benchmarks $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# What the tests run must be what is deployed. The BigQuery emulator holds some shared packages back (protobuf):
# so the larger set is compiled first, and the deployed one takes its versions from there.
# A package that is asked for with an extra stands twice, with it and without: older versions of pip (23.2, of Python 3.11)
# take each of the two in its newest version unless it is pinned as such, and have no hash for that one.
BARE_TOO = awk '/^[a-z0-9]/ { emit() } { block = block $$0 "\n" } END { emit() } \
	function emit() { \
		bare = block; \
		if (sub(/^[a-z0-9.-]+\[/, "&", bare)) { sub(/\[[^]]*\]/, "", bare); printf "%s", bare } \
		printf "%s", block; block = "" \
	}'
COMPILE = uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
requirements:
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	$(PYTHON) -m venv "$$tools"; "$$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv; \
	"$$tools"/bin/$(COMPILE) $(UPGRADE) requirements-dev.in --output-file requirements-dev.txt; \
	"$$tools"/bin/$(COMPILE) $(UPGRADE) requirements.in --constraints requirements-dev.txt \
		--output-file requirements.txt; \
	"$$tools"/bin/$(COMPILE) $(UPGRADE) requirements-terraform.in --output-file requirements-terraform.txt; \
	for file in requirements.txt requirements-dev.txt requirements-terraform.txt; do \
		$(BARE_TOO) "$$file" > "$$tools/twice" && cp "$$tools/twice" "$$file"; \
	done

$(INSTALLED): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "This needs Python 3.11 or newer, and '$(PYTHON)' isn't. Name one: make PYTHON=/path/to/python3.11 ..." >&2; \
		exit 1; \
	}
	@$(PYTHON) tests/sandbox/install.py $(VENV) requirements-dev.txt
	@touch $@

# Apart from the rest: checkov brings another `hcl2`.
$(TERRAFORM_INSTALLED): requirements-terraform.txt
	@$(PYTHON) tests/sandbox/install.py $(TERRAFORM_VENV) requirements-terraform.txt
	@touch $@

clean:
	rm -rf $(VENV) $(TERRAFORM_VENV) .sandbox .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
