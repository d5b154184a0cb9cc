# Each target calls tools that can be called by hand: .venv/bin/mailgateway, .venv/bin/pytest, .venv/bin/ruff, .venv/bin/mypy.

# The distribution's own comes first: it is built with profile-guided optimisation, which is a fifth of the CPU a message takes.
PYTHON ?= $(firstword $(foreach name,/usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
CONFIG ?= config.toml
WORKERS ?= 2
DIFFERENCE ?= 3000
FUZZ ?= 100
RELOADS ?= 10000
# Docstrings and signatures are read from the source: extensions have none.
OF_SOURCE := test_every_name_of_the_public_api_exists_and_is_documented test_the_surface_is_the_recorded_one
CORE_TESTS := tests/unit tests/dialogues tests/properties tests/plugins tests/faults tests/fuzz tests/integration
BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq install

ifneq ($(shell test -d gateway/plugins && echo yes),yes)
$(error gateway/plugins is not a directory. It is a symbolic link to ../plugins (git: core.symlinks))
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo core uncore compiler test test-core difference reloads fuzz trouble servers lint types fmt docs site api bench count growth learning valgrind soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/installed ## start the gateway with config.toml (CONFIG=FILE for another)
	@$(BIN)/mailgateway run --config $(CONFIG)

demo: .venv/installed ## send sample messages through a gateway of its own and show what becomes of them
	@$(BIN)/mailgateway demo

test: .venv/installed-tests servers ## run the tests (ARGS='-k name' for some of them)
	@$(BIN)/python -m pytest -n $(WORKERS) -q $(ARGS)

core: .venv/installed compiler ## compile what every message goes through, minutes of work for a quarter less CPU a message (docs/performance.md)
	@$(PIP) --group core
	@MAILGATEWAY_COMPILE=1 $(BIN)/python -W ignore setup.py -q build_ext --inplace
	@MAILGATEWAY_CORE=1 $(BIN)/mailgateway --version

uncore: ## remove what `make core` built
	@rm -rf gateway/_compiled build

compiler:
	@test -f "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" && command -v cc >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install gcc libc6-dev python3-dev >/dev/null; \
	else echo "a C compiler and the headers of Python are missing: sudo apt install gcc python3-dev"; exit 1; fi

test-core: .venv/installed-tests core ## the tests of what is compiled, with the compiled core (ARGS='-k name' for some of them)
	@MAILGATEWAY_CORE=1 $(BIN)/python -m pytest -n $(WORKERS) -q $(CORE_TESTS) $(OF_SOURCE:%=--deselect=tests/unit/test_public_api.py::%) $(ARGS)

difference: .venv/installed-tests servers ## 6,000 sessions against a bare Postfix and through the gateway (DIFFERENCE=NUMBER of either kind)
	@MAILGATEWAY_DIFFERENCE=$(DIFFERENCE) $(BIN)/python -m pytest -q -rP --show-capture=stdout --reruns 0 tests/difference

reloads: .venv/installed-tests ## 10,000 reloads of a worker, and nothing left of them (RELOADS=NUMBER)
	@MAILGATEWAY_RELOADS=$(RELOADS) $(BIN)/python -m pytest -q -rP --show-capture=stdout --reruns 0 tests/integration/test_reload_leaks.py

fuzz: .venv/installed-tests ## generated and hostile input, FUZZ=100 times as much as the suite has (ARGS='-k dkim' for some of it)
	@MAILGATEWAY_FUZZ=$(FUZZ) $(BIN)/python -m pytest -q -rP --show-capture=stdout --reruns 0 --timeout 0 tests/fuzz $(ARGS)

trouble: .venv/installed-tests ## scanners that are killed, stopped, slow or mad while mail flows, with figures
	@MAILGATEWAY_TROUBLE=1 $(BIN)/python -m pytest -q -s --reruns 0 --timeout 0 tests/integration/test_scanners_in_trouble.py $(ARGS)

servers: ## install the real mail servers that the tests talk to, and fetch the mail they send (root on Debian; otherwise those tests are skipped)
	@tests/install-servers
	@tests/install-wild-mail

lint: .venv/installed-tools ## ruff and the import layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: .venv/installed-tools .venv/installed-bench ## mypy --strict
	@$(BIN)/mypy gateway tests benchmarks

fmt: .venv/installed-tools ## format, and fix what can be fixed
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: .venv/installed-tests ## write the generated pages anew
	@$(BIN)/python -m gateway.config.reference && $(BIN)/python -m gateway.hook_reference && $(BIN)/python -m gateway.cli.reference
	@$(BIN)/python -m tests.docs.protocol_page

site: .venv/installed ## the documentation as a site with an API reference, in build/site
	@$(PIP) --group docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

api: .venv/installed-tests ## record what plugins stand on (docs/api-stability.md says what a change of it needs)
	@$(BIN)/python -m tests.unit.public_surface

bench: .venv/installed-bench servers ## beside haproxy, Postfix, Haraka and no proxy, all in one run (root on Debian; ARGS='--only kept,new', ARGS=--write)
	@benchmarks/install-peers
	@$(BIN)/python -m benchmarks $(ARGS)

count: .venv/installed-tests valgrind ## instructions of fixed scenarios against those kept in benchmarks/instructions.toml (ARGS=--keep to keep them)
	@$(BIN)/python -m benchmarks.instructions $(ARGS)

learning: .venv/installed-bench ## precision and recall of the plugin learning on held-out mail (ARGS='--ham FILE --spam FILE' for your own)
	@benchmarks/install-spam-mail
	@$(BIN)/python -m benchmarks.learning $(ARGS)

growth: .venv/installed-bench valgrind ## instructions over message size, recipients, fields, parts, rules, connections: does the cost grow linearly?
	@$(BIN)/python -m benchmarks.growth $(ARGS)

valgrind:
	@command -v valgrind >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install valgrind >/dev/null; \
	else echo "the package valgrind is missing: sudo apt install valgrind"; exit 1; fi

soak: .venv/installed-tests servers ## large mail beside small, 200 sessions at once, 200,000 messages: latency and memory
	@$(BIN)/python -m benchmarks.soak $(ARGS)

clean: ## remove the virtual environment and caches; mail and state below var/ stay
	rm -rf gateway/_compiled .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

.venv/made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (Debian: apt install python3)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install python3-venv >/dev/null; \
	else echo "the package python3-venv is missing: sudo apt install python3-venv"; exit 1; fi
	@$(PYTHON) -m venv .venv
	@$(PIP) --upgrade 'pip>=25.1'
	@touch $@

# A new entry point or dependency is seen only after another installation: the stamps depend on pyproject.toml.
.venv/installed: pyproject.toml | .venv/made
	@echo "installing mailgateway in .venv …"
	@$(PIP) --editable '.[uvloop]'
	@touch $@

.venv/installed-tests: .venv/installed
	@$(PIP) --group test
	@touch $@

.venv/installed-tools: .venv/installed-tests
	@$(PIP) --group lint
	@touch $@

.venv/installed-bench: .venv/installed-tests
	@$(PIP) --group bench
	@touch $@
