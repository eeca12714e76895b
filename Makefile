# The verbs of this project. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help

# The interpreter the environment is made with: make setup PYTHON=python3.13
PYTHON ?= python3
# Processes of the test run; how many "logical" is says tests/conftest.py.
JOBS ?= logical
# How long make soak and make fuzz go on.
MINUTES ?=
# Anything: with certificates and tokens.
SECURE ?=
# What make fuzz begins with.
SEED ?=
# Given to pytest to run a part of the tests, which is not measured: make test ARGS="-k refund"
ARGS ?=

# Tools are run as modules of the environment's interpreter or found on PATH, never by a path of
# this checkout, which may contain a space.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

CODE := $(wildcard order_service payment_service service_kit tests specs deploy bench security)
RELEASED := proto/released/v1.binpb

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name what; do \
		printf '  %-18s %s\n' "$$name" "$$what"; done

##@ Environment

.PHONY: setup
setup: .venv/.installed ## Make .venv from the lock file (instant when nothing changed)

# Installs a lock file into an environment: $(call install,ENVIRONMENT,LOCK).
# uv installs in a fraction of pip's time but does not read pip's configuration, so it is told pip's
# index; where uv cannot install, pip does, with everything the user has configured for it.
define install
	@index=$$(python -m pip config list | sed -nE "s/^[^=]*\.index-url='(.*)'$$/\1/p" | tail -n 1); \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; fi; \
	python -m uv pip install --quiet --compile-bytecode --python $(1)/bin/python --require-hashes -r $(2) || { \
		echo "uv could not install; trying pip …"; \
		env -u PIP_REQUIRE_HASHES "$$(command -v python)" -m pip --python $(1) install -qq --disable-pip-version-check --require-hashes --no-deps -r $(2); }
endef

# Makes an environment beside .venv, with its interpreter: $(call beside,ENVIRONMENT,LOCK).
define beside
	@echo "Setting up $(1) …"
	@python=$$(python -c 'import sys; print(sys._base_executable)'); \
	rm -rf $(1); "$$python" -m venv --without-pip $(1)
	$(call install,$(1),$(2))
endef

# The .pth lines are relative to site-packages: a moved or copied checkout still finds itself.
.venv/.installed: requirements.lock
	@command -v "$(PYTHON)" >/dev/null || { echo "make setup: no '$(PYTHON)' found; Python 3.11 or newer is needed (make setup PYTHON=…)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make setup: Python 3.11 or newer is needed, $$("$(PYTHON)" --version) found (make setup PYTHON=…)" >&2; exit 1; }
	@echo "Setting up .venv …"
	@# An activated .venv cannot replace itself: the interpreter it was made with does it.
	@python=$$("$(PYTHON)" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))'); \
	rm -rf .venv; "$$python" -m venv .venv
	@sed -n '/^uv==/,/[^\]$$/p' requirements.lock > .venv/uv.lock
	@python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.lock
	$(call install,.venv,requirements.lock)
	@printf '%s\n' ../../../.. ../../../../generated > "$$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/checkout.pth"
	@# Where the environment forbids Python to keep what it compiled, every start would compile it all.
	@python -m compileall -q order_service payment_service service_kit generated
	@touch .venv/.installed

.PHONY: lock
lock: setup ## Resolve the lock files anew from pyproject.toml
	@python -m uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --group dev \
		--custom-compile-command "make lock" pyproject.toml -o requirements.lock
	@python -m uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --group security \
		--custom-compile-command "make lock" -o security/requirements.lock
	@python -m uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --group proxy \
		--custom-compile-command "make lock" -o deploy/requirements.lock
	@python -m uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --group bench \
		--constraint requirements.lock --custom-compile-command "make lock" pyproject.toml -o bench/requirements.lock

##@ Contract

PROTOS = $(sort $(shell cd proto && find checkout -name '*.proto'))
SERVICE_PROTOS = $(filter %_service.proto,$(PROTOS))
# Where the generated code goes; make contract generates once more elsewhere and compares.
OUT ?= generated

.PHONY: generate
generate: setup ## Generate code, types and the descriptor set from proto/ into generated/
	@rm -rf "$(OUT)/checkout" && mkdir -p "$(OUT)"
	@python -m grpc_tools.protoc -I proto --python_out="$(OUT)" --mypy_out=quiet:"$(OUT)" $(PROTOS)
	@python -m grpc_tools.protoc -I proto --grpc_python_out="$(OUT)" --mypy_grpc_out=quiet:"$(OUT)" $(SERVICE_PROTOS)
	@# The generated Python has no comments: documentation and checks read this set.
	@python -m grpc_tools.protoc -I proto --include_imports --include_source_info \
		--descriptor_set_out="$(OUT)/checkout/contract.binpb" $(PROTOS)
	@find "$(OUT)/checkout" -type d -exec touch {}/__init__.py \;
	@touch "$(OUT)/checkout/py.typed"

.PHONY: contract
contract: setup ## Check the contract: format, lint, compatibility, freshness, meaning
	@buf format --diff --exit-code
	@buf lint
	@if [ -e $(RELEASED) ]; then buf breaking --against $(RELEASED); fi
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(MAKE) generate OUT="$$fresh" && \
	{ diff -r -q -x __pycache__ "$$fresh/checkout" generated/checkout || { \
		echo "generated/ is stale: run make generate" >&2; exit 1; }; }
	@python -m service_kit.contract check
	@python -m service_kit.contract document --check

.PHONY: contract-release
contract-release: setup ## Accept the contract as released (needs a CHANGELOG entry)
	@python -m service_kit.contract release

##@ Checks

.PHONY: check
check: lint bandit types imports contract specs ## Everything that can be checked without running the product

.PHONY: lint
lint: setup ## Format and lint rules (ruff)
	@ruff format --check
	@ruff check

.PHONY: format
format: setup ## Rewrite the code and the protos in their format
	@ruff check --quiet --fix --exit-zero
	@ruff format
	@buf format --write

.PHONY: types
types: setup ## Types (mypy --strict)
	@python -m mypy $(CODE)

.PHONY: imports
imports: setup ## Who may import whom (import-linter)
	@lint-imports --no-cache

.PHONY: specs
specs: setup ## Every requirement of specs/ is named by a test
	@python specs/check.py

##@ Security

# What looks at the rest has an environment of its own: semgrep and the product want different
# versions of the same libraries.
.venv-security/.installed: security/requirements.lock | setup
	$(call beside,.venv-security,security/requirements.lock)
	@touch $@

.PHONY: bandit
bandit: setup ## Holes that bandit knows, of medium severity or worse
	@python -m bandit --quiet --configfile pyproject.toml --severity-level medium -r $(filter-out tests,$(CODE))

.PHONY: security
security: lint bandit .venv-security/.installed ## Look for holes: ruff's S rules, bandit, and our own rules for semgrep
	@python -m bandit --quiet --configfile pyproject.toml --severity-level high -r tests
	@python -m security.house_rules $(CODE)
	@python -m pytest -q -n $(JOBS) tests/security

.PHONY: vulnerabilities
vulnerabilities: .venv-security/.installed ## Ask the public databases what is known of every locked version (needs the internet)
	@for lock in requirements.lock security/requirements.lock bench/requirements.lock deploy/requirements.lock; do \
		.venv-security/bin/python -m pip_audit --strict --disable-pip --require-hashes -r "$$lock"; done

.PHONY: sbom
sbom: .venv-security/.installed ## Write what the services are made of into build/sbom.json (CycloneDX)
	@python -m security.sbom

##@ Tests

# Tests of the parts, which are close to the code. The others call whole services, which are slower
# while their lines are counted.
PARTS := tests/unit tests/integration tests/contract

.PHONY: test
test: setup ## Run all tests; those of the parts have to cover 95 % of the branches
ifeq ($(ARGS),)
	@python -m pytest -n $(JOBS) $(PARTS) --cov --cov-report=
	@python -m pytest -n $(JOBS) tests $(addprefix --ignore=,$(PARTS) tests/faults)
else
	@python -m pytest -n $(JOBS) $(ARGS)
endif

.PHONY: faults
faults: setup ## Attack running services the way reality does, and check that no money is lost
	@# A part may take minutes; what hangs ends all the same.
	@python -m pytest -n $(JOBS) --dist worksteal -o faulthandler_timeout=1500 $(or $(ARGS),tests/faults --whole)

.PHONY: soak
soak: setup ## Kill services and PostgreSQL under load, and count what got lost: MINUTES=25
	@python -m tests.faults.soak $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

.PHONY: fuzz
fuzz: setup ## Send the services what nobody should: MINUTES=10, SEED=… to repeat
	@python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: cov
cov: setup ## Show the coverage of the last test run, with the missing lines
	@python -m coverage report --show-missing --skip-covered

.PHONY: faults-selftest
faults-selftest: setup ## Plant bugs in copies of the source, and see which part of the attack finds each
	@python -m tests.faults.selftest $(if $(ARGS),-k "$(ARGS)")

.PHONY: security-selftest
security-selftest: setup ## Take defences out of copies of the source, and see that their tests fail
	@python -m tests.security.selftest

##@ Measurements

# What measures has an environment of its own, with the peer's libraries, the same versions else.
.venv-bench/.installed: bench/requirements.lock | setup
	$(call beside,.venv-bench,bench/requirements.lock)
	@printf '%s\n' ../../../.. ../../../../generated > "$$(.venv-bench/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/checkout.pth"
	@touch $@

.PHONY: bench
bench: .venv-bench/.installed ## What calls cost, beside the floor and a peer: ARGS="create-order --again"; ARGS=--quick
	@.venv-bench/bin/python -m bench $(ARGS)

.PHONY: bench-growth bench-memory bench-profile bench-startup bench-round-trips
bench-growth: .venv-bench/.installed ## Whether reading stays quick, up to ten million orders (half an hour): ARGS="--sizes 1000 100000"
	@.venv-bench/bin/python -m bench.growth $(ARGS)
bench-memory: .venv-bench/.installed ## What the services hold in memory under load: MINUTES=10
	@.venv-bench/bin/python -m bench.memory --minutes $(or $(MINUTES),10)
bench-profile: .venv-bench/.installed ## What the processor time of a call goes to
	@.venv-bench/bin/python -m bench.profile $(ARGS)
bench-startup: .venv-bench/.installed ## How long until a service serves
	@.venv-bench/bin/python -m bench.startup $(ARGS)
bench-round-trips: .venv-bench/.installed ## How often a call waits for PostgreSQL
	@.venv-bench/bin/python -m bench.round_trips

.PHONY: bench-happy-path
bench-happy-path: setup ## What a call costs now, beside an earlier commit: AGAINST=COMMIT
	@python -m bench.happy_path --against $(or $(AGAINST),HEAD)

.PHONY: bench-credentials
bench-credentials: setup ## What a call costs with credentials, beside one without
	@python -m bench.credentials $(ARGS)

##@ Running

.PHONY: demo
demo: setup ## Watch a checkout: both services start, every step is shown; SECURE=1: mTLS and tokens
	@python deploy/demo.py $(if $(SECURE),--secured)

.PHONY: serve
serve: setup ## Keep both services running on 127.0.0.1:50051 and 127.0.0.1:50052; SECURE=1 as make certs says
	@exec python deploy/serve.py $(if $(SECURE),--secured)

# Envoy has an environment of its own, which nothing else needs.
.venv-proxy/.installed: deploy/requirements.lock | setup
	$(call beside,.venv-proxy,deploy/requirements.lock)
	@touch $@

.PHONY: proxy-demo
proxy-demo: .venv-proxy/.installed ## Watch Envoy before two processes of each service, while one of each is killed
	@python -m deploy.proxy_demo

.PHONY: certs
certs: setup ## Make throw-away certificates and keys in .data/credentials, to try SECURE=1
	@python -m deploy.credentials certs

.PHONY: readme
readme: setup ## Run the README's commands and write their output into it
	@python deploy/readme.py

.PHONY: clean
clean: ## Remove the environment, the local data and every cache
	@rm -rf .venv .venv-security .venv-bench .venv-proxy .data .coverage .coverage.* htmlcov build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
