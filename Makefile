# Everything a person or CI types. Each target does the set-up it needs; the second time that is instant.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.ONESHELL:

PYTHON ?= python3
OTHER_PYTHON := 3.13
# The distribution's own Python is an optimised build (PGO); one that pyenv made often is not, and a third slower.
BENCH_PYTHON ?= $(shell /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo /usr/bin/python3 || echo $(PYTHON))
BIN := .venv/bin
# Three test processes on two cores: tests also wait, for processes that they started and for time-outs.
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))
PYTEST = $(BIN)/python -m pytest -n $(WORKERS)
QUICK := not realtime and not vllm and not clients and not ray
UNIT := -m "not slow and $(QUICK)"
# More arguments for the program a target runs: make demo ARGS="--pods 8", make unit ARGS="-k prefix"
ARGS ?=
# Tests start hundreds of Python processes: each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: $(shell grep -oE "^[a-z-]+:" $(MAKEFILE_LIST) | tr -d :)

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup:
	@scripts/setup-venv .venv "$(PYTHON)" dev

setup-run:
	@scripts/setup-venv .venv "$(PYTHON)" run

programs:  ## the programs that tests start, from Debian's packages where this user may install some
	@scripts/ensure-programs

demo: setup-run  ## engines, gateway, traffic and a live view, all on this machine
	@$(BIN)/turnout demo $(ARGS)

upgrade-demo: setup-run  ## roll every replica twice under load, behind HAProxy, with shared state and without; 6 minutes
	@scripts/ensure-programs redis-server haproxy
	$(BIN)/python -m loadtests.upgrade $(ARGS)

prove-check: setup-run  ## turnout prove, 20 times for one version twice and for 10 seeded regressions, 2 hours, resumable
	@scripts/ensure-programs redis-server
	$(BIN)/python -m loadtests.bench.prove --out docs/benchmarks $(ARGS)

swap-soak: setup-run  ## 200 policy swaps a minute for 3 minutes on two replicas under load: nothing fails, leaks or slows down
	@scripts/ensure-programs redis-server
	$(BIN)/python -m loadtests.swaps $(ARGS)

chaos: setup-run  ## faults of pods, Redis, Kubernetes, replicas, DNS, clocks and disks at 70 % load, three seeds of 10 minutes: no false answer
	@scripts/ensure-programs redis-server faketime
	$(BIN)/python -m loadtests.chaos --seed 1 --seed 2 --seed 3 $(ARGS)

soak: compiled  ## a million requests with errors and clients that leave: memory, descriptors and Redis do not grow; 30 minutes
	@scripts/ensure-programs redis-server
	$(BIN)/python -m loadtests.soak --python .venv-compiled/bin/python $(ARGS)

test:  ## all checks and every test that does not need minutes of real time, set-up included
	@$(MAKE) -j2 setup programs
	$(MAKE) -j2 --output-sync=target lint types imports
	$(PYTEST) -m "$(QUICK)" $(ARGS)

test-all: test test-realtime test-clients unit-other guard wheel test-compiled  ## the same, and what takes minutes of real time

test-realtime: setup programs  ## upgrades, rolls, chaos and soaks in real time
	$(BIN)/python -m pytest -n 2 -m "realtime and not vllm and not ray" $(ARGS)

test-clients: setup  ## SDKs, agents, benchmarks and a browser that others wrote, direct and through the gateway
	@scripts/ensure-programs ab chromium curl node npm
	scripts/setup-clients "$(PYTHON)"
	$(BIN)/python -m pytest -n 2 -m clients $(ARGS)

test-ray: setup  ## policies inside Ray Serve: Ray, four replicas, Ray's own routers beside; 2 minutes, and Ray's packages once
	@scripts/setup-venv .venv-ray "$(PYTHON)" ray
	$(BIN)/python -m pytest -m ray $(ARGS)

same-decisions: setup  ## gateway, endpoint picker, Ray Serve's routers and simulator pick the same pods for a million requests; an hour
	TURNOUT_DECISIONS=1000000 $(BIN)/python -m pytest -n 2 --dist load -q tests/e2e/test_same_decisions.py $(ARGS)

policy-model: setup programs  ## 10,000 random histories of three replicas and a Redis that fails: one record for every pool
	TURNOUT_MODEL_RUNS=10000 $(BIN)/python -m pytest -q tests/chaos/test_policy_record_model.py $(ARGS)

unit unit-other: export HYPOTHESIS_PROFILE ?= quick

unit: setup  ## the tests that start no process; a quarter of the examples of a property
	$(PYTEST) $(UNIT) $(ARGS)

unit-other: setup  ## the same on a second Python, where there is one
	@other=$$(scripts/find-python $(OTHER_PYTHON))
	if [[ $$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') == $(OTHER_PYTHON) ]]; then exit 0; fi
	if [[ -z $$other ]]; then echo "no python$(OTHER_PYTHON) here: the unit tests ran on one Python only"; exit 0; fi
	scripts/setup-venv .venv313 "$$other" dev
	echo ".venv313/bin/python -m pytest $(UNIT)"
	.venv313/bin/python -m pytest -n $(WORKERS) $(UNIT) $(ARGS)

coverage: setup programs  ## what `make test` covers of the three packages, in the tests' own processes
	$(PYTEST) -m "$(QUICK)" -q --cov --cov-report=term $(ARGS)

lint: setup  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup  ## mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy scripts/configuration_md.py scripts/demo_picture.py
	$(BIN)/mypy -p scripts.monitoring

imports: setup  ## import-linter: router -> statesync -> schedulers
	$(BIN)/lint-imports

walk: setup  ## write the walk of a request in docs/architecture.md
	@$(BIN)/python -m scripts.request_walk --write docs/architecture.md

docs: setup  ## write the generated pages of docs/ from the sources: configuration, commands, API, metrics, errors; and the chart's schema
	$(BIN)/python scripts/configuration_md.py > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md
	$(BIN)/python -m scripts.reference
	$(BIN)/python -m scripts.chart_schema

docs-site:  ## build the docs as a web site that works offline: site/index.html
	@scripts/setup-venv .venv-docs "$(PYTHON)" docs
	.venv-docs/bin/python -m scripts.docs_site $(ARGS)

protos:  ## write the tests' messages of Envoy from tests/fakes/ext_proc.proto
	@scripts/protos "$(PYTHON)"

monitoring: setup  ## write the dashboard and the alerts under deploy/ from scripts/monitoring
	$(BIN)/python -m scripts.monitoring

image-test: setup  ## build the image with buildah on a base of Debian's, start what it built; as root, 6 minutes
	scripts/image-build --layers
	TURNOUT_IMAGE=localhost/turnout $(BIN)/python -m pytest tests/deploy/test_image.py $(ARGS)

lock:  ## resolve and hash requirements/*.txt anew (ARGS=--upgrade for newer versions)
	PYTHON="$(PYTHON)" scripts/lock $(ARGS)

wheel: setup  ## the compiled wheel of this machine into dist/, and its tests in a new environment without a compiler
	@wheel=$$(scripts/build-wheel "$(PYTHON)")
	mkdir -p dist
	cp "$$wheel" dist/
	TURNOUT_WHEEL=$$wheel $(BIN)/python -m pytest -q tests/deploy/test_installed_wheel.py $(ARGS)
	echo "dist/$$(basename "$$wheel")"

wheels:  ## the compiled wheels of a release for this processor, in dist/; needs Docker
	@scripts/setup-venv .venv-release "$(PYTHON)" release
	.venv-release/bin/cibuildwheel --platform linux --output-dir dist $(ARGS)

release-check: setup  ## sources, pure wheel and bill of materials in dist/, and all that a release must have
	@scripts/setup-venv .venv-release "$(PYTHON)" release
	$(BIN)/python -m scripts.release_check --tools .venv-release/bin $(ARGS)

compiled: setup  ## the wheel of `make wheel` in .venv-compiled, with what the tests and benches need
	@scripts/setup-compiled .venv-compiled "$(PYTHON)"

test-compiled: setup  ## end-to-end tests of that wheel
	python=$$(scripts/setup-compiled .venv-compiled "$(PYTHON)")
	TURNOUT_TESTED_PYTHON=$$python $(PYTEST) tests/e2e -m "$(QUICK)" $(ARGS)

bench-smoke: setup-run  ## the wheel's gateway beside nginx, one core each, under a minute
	@python=$$(scripts/setup-compiled .venv-bench "$(BENCH_PYTHON)" || echo $(BIN)/python)
	$(BIN)/python -m loadtests.bench --smoke --python "$$python" $(ARGS)

bench: setup-run  ## beside nginx, the Rust routers and a FastAPI one, about 10 minutes: docs/benchmarks/routers.md
	@python=$$(scripts/setup-compiled .venv-bench "$(BENCH_PYTHON)" || echo $(BIN)/python)
	$(BIN)/python -m loadtests.bench --out docs/benchmarks --python "$$python" $(ARGS)

bench-micro: setup  ## cost of each part by size: docs/benchmarks.md and its plots (ARGS=--huge: 10M blocks too)
	@python=$$(scripts/setup-compiled .venv-bench "$(BENCH_PYTHON)" || true)
	# -P: the packages as installed there, not the sources in the working directory.
	"$${python:-$(BIN)/python}" $${python:+-P} -m loadtests.bench.micro --docs docs $(ARGS)

bench-state: setup-run  ## what sharing state through Redis costs, 3 minutes: docs/benchmarks/state.md
	@scripts/ensure-programs redis-server
	$(BIN)/python -m loadtests.bench.state --out docs/benchmarks $(ARGS)

bench-scheduling: setup-run  ## policies and other routers' algorithms on many kinds of traffic, 12 minutes: docs/benchmarks/scheduling.md
	$(BIN)/python -m loadtests.bench.scheduling --out docs/benchmarks --readme README.md $(ARGS)

shootout: setup-run  ## routers that others ship beside this one, in real time, 2 hours, resumable: docs/benchmarks/shootout.md
	@scripts/ensure-programs nginx || true
	[[ ! -d .venv-compiled ]] || scripts/setup-compiled .venv-compiled "$(PYTHON)" >/dev/null || true
	$(BIN)/python -m loadtests.bench.shootout --out docs/benchmarks $(ARGS)

bench-freeze: setup-run  ## are streams held up by scrapes, /admin/pods, DNS, discovery, Redis? (ARGS="--out docs/benchmarks")
	@python=$$(scripts/setup-compiled .venv-bench "$(BENCH_PYTHON)" || echo $(BIN)/python)
	$(BIN)/python -m loadtests.bench.freeze --python "$$python" $(ARGS)

bench-shadow: setup-run  ## what a shadow and a canary cost a request, in one run, 5 minutes: docs/benchmarks/shadow.md
	@python=$$(scripts/setup-compiled .venv-bench "$(BENCH_PYTHON)" || echo $(BIN)/python)
	$(BIN)/python -m loadtests.bench.shadow --out docs/benchmarks --python "$$python" $(ARGS)

bench-tls: setup-run  ## what TLS costs a connection and a request, beside nginx, 2 minutes: docs/benchmarks/tls.md
	@python=$$(scripts/setup-compiled .venv-bench "$(BENCH_PYTHON)" || echo $(BIN)/python)
	$(BIN)/python -m loadtests.bench.tls --out docs/benchmarks --python "$$python" $(ARGS)

bench-epp: setup-run  ## what a pick behind the real Envoy costs, beside the gateway, 3 minutes: docs/benchmarks/epp.md
	@scripts/setup-clients "$(PYTHON)"
	python=$$(scripts/setup-compiled .venv-bench "$(BENCH_PYTHON)" || echo $(BIN)/python)
	$(BIN)/python -m loadtests.bench.epp --out docs/benchmarks --python "$$python" $(ARGS)

bench-fairness: setup-run  ## a full pool shared between tenants by real gateways, and overload, 14 minutes: docs/benchmarks/fairness.md
	@scripts/ensure-programs redis-server
	$(BIN)/python -m loadtests.bench.fairness --out docs/benchmarks $(ARGS)

bench-trials: setup  ## canaries in virtual time, sound and bad ones, 30 minutes: docs/benchmarks/trials.md
	$(BIN)/python -m loadtests.bench.trials $(ARGS)

guard: setup  ## instructions a request, counted by callgrind; fails at 10 % over the baseline
	$(BIN)/python -m loadtests.bench.guard $(ARGS)

guard-baseline: setup  ## make what is counted now the baseline
	$(BIN)/python -m loadtests.bench.guard --write-baseline

profile: setup  ## where a request's time goes (ARGS="'stream of 64' --top 50")
	@$(BIN)/python -m loadtests.bench.guard.profile $(ARGS)

locust: setup  ## locust, headless, against a demo of its own (HOST=http://... for yours)
	@scripts/locust --headless --users 20 --spawn-rate 5 --run-time 30s $(ARGS)

locust-ui: setup  ## locust with its web page, against a demo of its own
	@scripts/locust $(ARGS)

clean:  ## remove environments and caches
	rm -rf .venv .venv313 .venv-lock .venv-release .cache/wheels build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
