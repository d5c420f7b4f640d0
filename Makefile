# The two commands that matter: `make demo` and `make test`. Everything else serves them.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint fmt setup clean
setup: .venv/.installed

clean:
	rm -rf .venv runs demo.zarr
