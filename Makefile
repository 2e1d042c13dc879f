# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Needs Debian or Ubuntu, make, and root or sudo. All else is installed by `make setup`, on which the other targets depend.
# Everything that is downloaded or built lands in .cache.

SHELL := /bin/sh
.DEFAULT_GOAL := help

CACHE := $(CURDIR)/.cache
COLLECTIONS := $(CACHE)/collections
POLICY := plugins/module_utils/_policy
NODE_TESTS := tests/unit/plugins/modules tests/unit/plugins/module_utils

export PATH := $(CACHE)/venv/bin:$(CACHE)/pythons:$(PATH)
export LC_ALL := C.UTF-8
# Caches of the tools, those of pip and Molecule among them.
export XDG_CACHE_HOME := $(CACHE)/xdg
export ANSIBLE_HOME := $(CACHE)/ansible
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export PYTHONPYCACHEPREFIX := $(CACHE)/pycache
# Or every run of Ansible and of the tests would compile everything once more.
unexport PYTHONDONTWRITEBYTECODE
export ANSIBLE_COLLECTIONS_PATH := $(COLLECTIONS)

# What `make test` runs, the longest first; it has to end within an hour on two cores. `make scenarios` runs the others, too: of what
# they look at, `mixed` and `default` have the kinds of nodes, the demo has a server of GPUStack 0.6.0, `ten_drifts` has drifts that
# are cured at once, and the unit tests have every drift of `drift` and `fast_path`.
SCENARIOS := server_062 server_071 real_package distributed upgrade ten_drifts composition check_first sick mixed airgap when_idle rollback default
MORE_SCENARIOS := fast_path drift server_060 real_package_linux macs linux
TEST_JOBS := sanity demo hosts-test $(SCENARIOS:%=molecule-%) faults-some canaries-some privileges crash-some cores unit-oldest unit-others fuzz-some coverage lint-yaml lint-docs readers-test artefact lint-python
LINT_JOBS := lint-yaml lint-docs lint-python

.PHONY: help
help: ## Show the targets.
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

.PHONY: setup venv
setup: ## Install what is missing: Debian packages, Python tools into .cache/venv.
	@tests/tools/setup.sh all

venv:
	@tests/tools/setup.sh venv

.PHONY: test
test: setup ## All that CI runs.
	@python3 tests/tools/jobs.py $(TEST_JOBS)

# What modules import of Ansible, without the rest of the controller's packages.
.PHONY: node-imports
node-imports: venv
	@mkdir -p $(CACHE)/node && ln -sfn "$$(python3 -c 'import ansible; print(ansible.__path__[0])')" $(CACHE)/node/ansible

.PHONY: unit
unit: node-imports ## Unit tests, and all code for nodes imported by Python 3.9.
	@if python3.9 -c '' 2>/dev/null; then python3.9 tests/tools/import_modules.py $(COLLECTIONS) $(CACHE)/node; \
	else echo 'not run: import of code for nodes by Python 3.9, which this machine does not have'; fi
	PYTHONPATH=$(COLLECTIONS) pytest -q -n auto $(PYTEST_ARGUMENTS)

# Of these alone, since to count branches takes as much time again as the tests.
.PHONY: coverage unit-others
coverage: venv ## Unit tests of the pure code, with the branches of it that none of them takes.
	$(MAKE) --no-print-directory unit PYTEST_ARGUMENTS='tests/unit/$(POLICY) --cov=$(POLICY) --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100'

unit-others: venv
	$(MAKE) --no-print-directory unit PYTEST_ARGUMENTS='--ignore=tests/unit/$(POLICY)'

# Where a transaction can die does not depend on the Python, and to walk through all those points takes half of the time.
.PHONY: unit-oldest
unit-oldest: node-imports ## Unit tests of the code for nodes on Python 3.9, if this machine has it.
	@if python3.9 -c '' 2>/dev/null; then tests/tools/setup.sh oldest && \
	    PYTHONPATH=$(COLLECTIONS):$(CACHE)/node $(CACHE)/venv-oldest/bin/pytest -q -n auto --ignore-glob='*fault_points.py' $(NODE_TESTS); \
	else echo 'not run: unit tests on Python 3.9, which this machine does not have'; fi

.PHONY: lint lint-python lint-yaml lint-docs
lint: venv ## All static checks.
	@python3 tests/tools/jobs.py $(LINT_JOBS)

# -k: one kind of finding does not hide another.
lint-python: venv ## ruff, mypy, and nothing in code for nodes that Python 3.9 lacks.
	@$(MAKE) --no-print-directory -k ruff mypy vermin

lint-yaml: venv ## yamllint and ansible-lint.
	@$(MAKE) --no-print-directory -k yamllint ansible-lint

lint-docs: venv ## Documentation of plugins and roles, changelog fragments.
	@$(MAKE) --no-print-directory -k docs-lint changelog-lint

.PHONY: ruff mypy vermin yamllint ansible-lint docs-lint changelog-lint
ruff:
	ruff check --output-format concise .
	ruff format --check --quiet .

mypy:
	mypy

vermin:
	vermin --quiet --no-tips --violations --target=3.9- plugins/modules plugins/module_utils

yamllint:
	yamllint --strict .

ansible-lint:
	tests/tools/in_copy.sh ansible-lint --nocolor --format pep8

docs-lint:
	tests/tools/in_copy.sh antsibull-docs lint-collection-docs --plugin-docs .

changelog-lint:
	antsibull-changelog lint

# One sanity run at a time: ansible-test does not expect another one to build the same environments.
.PHONY: sanity
sanity: venv ## ansible-test sanity, with every Python that this machine has; its pylint for the collection alone, as ruff looks at the tests.
	flock -o $(CACHE)/locks/sanity tests/tools/ansible_test.sh sanity --color no --local --skip-test pylint
	flock -o $(CACHE)/locks/sanity tests/tools/ansible_test.sh sanity --color no --local --test pylint --exclude tests/ --exclude molecule/

.PHONY: artefact
artefact: venv ## Build the collection's archive, install it, read its documents.
	tests/tools/in_copy.sh tests/tools/artefact.sh

.PHONY: demo
demo: setup ## gpustack#1907 on two simulated Mac Studios with a real GPUStack server: shown, cured, shown again.
	@PYTHONPATH=tests/fleet:tests/gpustack:tests/mirror python3 tests/demo/demo.py

.PHONY: molecule
molecule: setup ## One Molecule scenario on disposable hosts: make molecule SCENARIO=default.
	tests/tools/molecule.sh $(or $(SCENARIO),default)

molecule-%: setup
	tests/tools/molecule.sh $*

.PHONY: scenarios
scenarios: setup ## Every Molecule scenario, those that make test leaves out among them.
	@python3 tests/tools/jobs.py $(SCENARIOS:%=molecule-%) $(MORE_SCENARIOS:%=molecule-%)

.PHONY: cores
cores: setup ## The playbook under every supported ansible-core that a Python of this machine can run.
	@PYTHONPATH=tests/fleet:tests/mirror python3 tests/cores/hostile_facts.py
	@PYTHONPATH=tests/fleet:tests/mirror python3 tests/cores/hostile_receipt.py
	@PYTHONPATH=tests/fleet:tests/mirror python3 tests/cores/cores.py

# Each target below it is a kind of fault of its own.
.PHONY: faults faults-all faults-some
faults: faults-all $(if $(ONLY),,canaries privileges crash) ## What runs do on hosts, and with mirrors, that have a fault; takes hours (ONLY='mirror_*' for some faults alone, NODES=100 in a fleet).

FAULTS = PYTHONPATH=tests/fleet:tests/hosts:tests/mirror:$(COLLECTIONS) python3 tests/faults/faults.py

faults-all: setup
	@$(FAULTS) --only '$(or $(ONLY),*)' --nodes $(or $(NODES),100)

faults-some: setup ## A quick part of make faults, for make test.
	@$(FAULTS) --some --at-once 3

.PHONY: canaries canaries-some privileges
canaries: setup ## Secrets in every input, looked for in everything that every module, role and playbook writes anywhere.
	@PYTHONPATH=tests/fleet:tests/hosts:tests/mirror python3 tests/canaries/canaries.py

canaries-some: setup ## The part of it that make test runs.
	@PYTHONPATH=tests/fleet:tests/hosts:tests/mirror python3 tests/canaries/canaries.py --some

privileges: setup ## What needs root and what does not, with real ssh and sudo.
	@PYTHONPATH=tests/fleet:tests/mirror python3 tests/privileges/privileges.py

.PHONY: hosts-test
hosts-test: setup ## The disposable hosts themselves, stand-ins compared with recordings.
	pytest -q --import-mode=prepend tests/hosts/tests

.PHONY: readers-test
readers-test: setup ## Our model of how environment files are read against real systemd and real shells.
	tests/integration/readers/run.sh

.PHONY: survive
survive: setup ## What the collection takes for granted of the real GPUStack: a replaced llama-box stays, and runs.
	@PYTHONPATH=tests/fleet python3 tests/gpustack/survive.py $(COMBINATIONS)

.PHONY: gpustack-test
gpustack-test: setup ## gpustack#1907 on real schedulers without the collection: placement, flags, memory maps (VERSIONS="0.6.0 0.6.2").
	@PYTHONPATH=tests/fleet:tests/gpustack:tests/hosts python3 tests/gpustack/cases.py $(VERSIONS)

.PHONY: bench bench-report
bench: setup ## What a run costs, beside other tools with the same policy (HOSTS=10 PAIRS=5 FIRST=1 ONLY= FORKS=20 ARCHIVE_MIB=50 RESULTS=docs).
	@PYTHONPATH=tests/fleet:tests/hosts:tests/mirror python3 tests/bench/bench.py --hosts $(or $(HOSTS),10) --pairs $(or $(PAIRS),5) \
	    --first $(or $(FIRST),1) --forks $(or $(FORKS),20) --archive-mib $(or $(ARCHIVE_MIB),50) $(if $(ONLY),--only $(ONLY)) $(if $(RESULTS),--results $(RESULTS))
	@if [ "$(RESULTS)" = docs ]; then $(MAKE) --no-print-directory bench-report; fi

.PHONY: bench-parts
bench-parts: setup ## Where the CPU of a run that changes nothing goes (HOSTS=20 RUNS=5 RESULTS=docs).
	@PYTHONPATH=tests/fleet:tests/hosts:tests/mirror python3 tests/bench/parts.py --hosts $(or $(HOSTS),20) --runs $(or $(RUNS),5) $(if $(RESULTS),--results $(RESULTS))
	@if [ "$(RESULTS)" = docs ]; then $(MAKE) --no-print-directory bench-report; fi

bench-report: venv ## Bring the figures in docs to what docs/performance.json says.
	@python3 tests/bench/report.py

.PHONY: bench-models
bench-models: setup ## What a run of the models' role that changes nothing costs (MODELS=300 WORKERS=60 PAIRS=5).
	@PYTHONPATH=tests/fleet:tests/gpustack python3 tests/bench/models.py --models $(or $(MODELS),300) --workers $(or $(WORKERS),60) --pairs $(or $(PAIRS),5)

# One core, and the last to get it: a campaign takes hours.
FUZZ := PYTHONPATH=$(COLLECTIONS):$(CACHE)/node nice -n 19 $(CACHE)/venv-fuzz/bin/python tests/fuzz/campaign.py

.PHONY: fuzz fuzz-setup fuzz-some
fuzz-setup: node-imports
	@tests/tools/setup.sh fuzz

fuzz: fuzz-setup ## A campaign of the coverage-guided fuzzer, written down in docs (SECONDS=60 or EXECUTIONS= for each target, TARGETS=, CONTINUE=1 adds to the last one).
	@$(FUZZ) $(if $(EXECUTIONS),--executions $(EXECUTIONS),--seconds $(or $(SECONDS),60)) $(if $(CONTINUE),--continue,$(if $(TARGETS),,--results)) $(TARGETS)

# A job of `make test`: all parsers in one process, with the same seed each time. What it finds is in its log.
fuzz-some: fuzz-setup ## Every parser fuzzed, for 40 seconds in all.
	@PYTHONPATH=$(COLLECTIONS):$(CACHE)/node $(CACHE)/venv-fuzz/bin/python tests/fuzz/campaign.py --seconds 40 --seed 1 \
	    --folder $(CACHE)/fuzz-some --fresh all

CRASH := PYTHONPATH=tests/crash:tests/fleet:tests/hosts:tests/mirror python3 tests/crash/crash.py

.PHONY: crash crash-some crash-report
crash: setup ## Kill runs at every change that they make (POINTS=0 MINUTES=600 ONLY= KINDS=linux,mac); writes docs/crash-points.
	@$(CRASH) --points $(or $(POINTS),0) --minutes $(or $(MINUTES),600) $(if $(ONLY),--only "$(ONLY)") $(if $(KINDS),--kinds $(KINDS)) --results docs/crash-points.json
	@$(CRASH:crash.py=through_ansible.py) --minutes $(or $(MINUTES),600) $(if $(KINDS),--kinds $(KINDS)) --results docs/crash-points.json
	@$(MAKE) --no-print-directory crash-report

crash-some: setup ## Eight of these points: two transactions on a Linux host.
	@$(CRASH) --points 4 --kinds linux --only node/rollback

crash-report: venv ## Bring the tables in docs to what docs/crash-points.json says.
	@python3 tests/crash/crash_report.py

.PHONY: mutation
mutation: venv ## Change the pure code in every small way and see that a test notices (FILES= for some files only).
	python3 tests/tools/mutation.py $(FILES)

.PHONY: format
format: venv ## Let ruff write all Python files as it wants them.
	ruff check --fix .
	ruff format .

.PHONY: pins
pins: venv ## Pin again what requirements/dev.in asks for.
	python3 -m venv $(CACHE)/uv && $(CACHE)/uv/bin/pip install --quiet uv
	cd requirements && $(CACHE)/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header dev.in -o dev.txt
	cd requirements && $(CACHE)/uv/bin/uv pip compile --quiet --universal --python-version 3.9 --no-header oldest.in -o oldest.txt
	cd requirements && $(CACHE)/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header --generate-hashes fuzz.in -o fuzz.txt

.PHONY: clean
clean: ## Remove .cache, that is everything that make made.
	rm -rf $(CACHE)
