# `make demo` and `make test` set up what they need. PYTHON names the interpreter, 3.11 or newer;
# WORKERS is how many processes run the tests, of up to 2.5 GB each.
PYTHON ?= python3
WORKERS ?= 3
BIN := .venv/bin
# The tests start hundreds of processes: each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
CODE := mercore plugins tests examples benchmarks docs
BENCHMARKS := encoders startup store status s3 extraction memory starter noise paraformer punctuation mossformer2 language_model training mining mertools tuning emotion_vit scaling decoding large_media fuzz_media faults kill two_runs

.PHONY: setup demo test tests slow lint types fmt docs bench clean

setup: .venv/.installed

.venv/.installed: requirements.txt requirements-dev.txt constraints.txt pyproject.toml $(wildcard plugins/*/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt
	touch $@

demo: setup
	$(BIN)/mer run --registry registry.yaml --manifest examples/demo/manifest.csv \
	  --store demo.zarr --out runs/demo

test: lint
	$(MAKE) -j2 types tests

# A file's tests stay together: fixtures of a module or a class are set up once. In the order of the
# names: by their number, those that make environments and take longest would come last. A worker that
# dies ends it: xdist would wait for ever for the tests that it had.
tests: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  --max-worker-restart 0

slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

lint: setup
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: setup
	$(BIN)/mypy $(CODE)

fmt: setup
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: setup
	for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python benchmarks/$$script.py || exit 1; done

clean:
	rm -rf .venv demo.zarr runs site
