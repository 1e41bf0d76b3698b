# Two commands matter: `make run` starts the app, `make test` checks everything. `make help` lists the rest.
# Variables: PYTHON (3.11 or newer), PORT, TORCH_INDEX (which build of torch, see README.md).

PYTHON ?= python3
PORT ?= 8501
TORCH_INDEX ?=

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
# One BLAS thread per process: tests run two processes side by side, and results do not depend on the core count.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
JOBS ?= 2
EXAMPLES := data/diffusion/examples
SYRUP := data/spectra/examples
FRAMES := data/bragg/examples

.DEFAULT_GOAL := help
.PHONY: help run test check unit slurm e2e browser format screenshots examples benchmark benchmark-app clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

run: $(VENV)/.installed  ## install what is missing, then start the app on http://127.0.0.1:8501
	$(PY) -m streamlit run app.py --server.address 127.0.0.1 --server.port $(PORT)

test: check unit slurm e2e  ## everything CI runs: lint, format, types, unit, contract, page, cluster and browser tests

check: $(VENV)/.installed-dev  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check --quiet .
	$(PY) -m mypy

unit: $(VENV)/.installed-dev  ## every test that needs neither a browser nor a cluster
	$(ONE_THREAD) $(PY) -m pytest tests --ignore=tests/e2e --ignore-glob='*/slurm/test_real*' -n $(JOBS) --dist worksteal

# On real Slurms of one node, which the tests install (Debian, as root) and start: one for each of those that run side by side.
slurm: $(VENV)/.installed-dev  ## the tests of runs on a cluster
	$(ONE_THREAD) $(PY) -m pytest tests/slurm/test_real*.py -n $(JOBS) --dist worksteal

# One at a time and after the rest: the browser tests start servers and trainings of their own.
e2e: $(VENV)/.installed-dev browser  ## the browser tests
	$(ONE_THREAD) $(PY) -m pytest tests/e2e

format: $(VENV)/.installed-dev  ## rewrite the sources in the house format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

screenshots: $(VENV)/.installed-dev browser  ## take README's images from a running app
	$(PY) -m tests.e2e.screenshots docs/images

examples: $(VENV)/.installed  ## make the sample files of all tasks anew: the same files, bit for bit
	@set -e; rm -f $(EXAMPLES)/*; for clip in slow:0.05 medium:0.5 fast:5; do \
		name=$${clip%:*}; new="$(EXAMPLES)/.$$name"; \
		$(PY) -m lib simulate diffusion --n 1 --seed 7 --output "$$new" --set d_um2_s=$${clip#*:} photons=450 background=9 \
			baseline_adu=450 em_gain=300 e_per_adu=5 read_sigma_e=50 >/dev/null; \
		mv "$$new"/*.tif "$(EXAMPLES)/$$name.tif"; \
		sed "s/simulated-00000/$$name/" "$$new/truth.csv" | if [ $$name = slow ]; then cat; else tail -n 1; fi >>"$(EXAMPLES)/truth.csv"; \
		rm -r "$$new"; done
	@set -e; new="$(SYRUP)/.new"; mkdir -p $(SYRUP); \
		$(PY) -m lib simulate spectra --preset "a whole population" --n 240 --seed 2026 --output "$$new" >/dev/null; \
		mv "$$new/spectra.parquet" $(SYRUP)/simulated-syrup.parquet; rm -r "$$new"
	@set -e; new="$(FRAMES)/.new"; mkdir -p $(FRAMES); \
		$(PY) -m lib simulate bragg --preset "Pilatus 300K" --set hit_fraction=0.6 --n 6 --seed 7 --output "$$new" >/dev/null; \
		mv "$$new/frames.cxi" $(FRAMES)/simulated-run.cxi; \
		sed "s/^frames\.cxi,/simulated-run.cxi,/" "$$new/truth.csv" >$(FRAMES)/truth.csv; rm -r "$$new"
	$(PY) -m lib.tasks.reflectance.demo --examples --output data/reflectance/examples

benchmark: $(VENV)/.installed-dev benchmark-app  ## every figure that README claims, with peers measured in the same run
	$(PY) -m benchmarks.diffusion
	$(PY) -m benchmarks.spectra --parts 2 3
	$(PY) -m benchmarks.bragg
	$(PY) -m benchmarks.reflectance
	$(PY) -m benchmarks.reflectance_app
	$(PY) -m benchmarks.jobs
	$(PY) -m benchmarks.sweeps

benchmark-app: $(VENV)/.installed-dev browser  ## how fast and how lean the app is
	$(PY) -m benchmarks.app

clean:  ## remove the environment and the tools' caches; runs and data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lightbench needs Python 3.11 or newer. Name another one: make run PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# The stamps make a second start install nothing; an interrupted installation leaves none and is done again.
$(VENV)/.installed: requirements.txt | $(PY)
	@echo "Installing Lightbench into $(VENV); the first time takes a few minutes ..."
	@if [ -n "$(TORCH_INDEX)" ]; then $(PIP) "$$(grep '^torch==' requirements.txt)" --index-url "$(TORCH_INDEX)"; fi
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) -r requirements-dev.txt
	@touch $@

# Debian's Chromium brings its own libraries, so it is the better choice where we may install it.
browser: $(VENV)/.installed-dev
	@if which chromium chromium-browser google-chrome 2>/dev/null | grep -q .; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else $(PY) -m playwright install chromium; fi
