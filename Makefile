PYTHON ?= python3
PORT ?= 7860
BIN := .venv/bin

.PHONY: setup demo test lint proofs audit screenshots clean

setup: .venv/dev  ## everything: to run, to test, to lint

demo: .venv/run  ## serve the page and print its address; PORT=8000 make demo
	PORT=$(PORT) $(BIN)/python app.py

test: .venv/dev  ## every test; needs no network beyond the installation
	$(BIN)/python data/check.py
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: .venv/dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

proofs: .venv/dev  ## the long measurements; writes benchmarks/results
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[pretrained,onnx,benchmarks]'
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.data_efficiency
	$(BIN)/python -m benchmarks.recipes
	$(BIN)/python -m benchmarks.behaviour
	$(BIN)/python -m benchmarks.reliability
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.bulk
	$(BIN)/python -m benchmarks.own_films
	$(BIN)/python -m benchmarks.space
	$(BIN)/python -m benchmarks.attribution
	$(BIN)/python -m benchmarks.fuzz
	$(BIN)/python -m benchmarks.ship --refresh
	$(BIN)/python -m benchmarks.report

audit: .venv/dev  ## advisories against what is installed; asks PyPI
	$(BIN)/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --local --skip-editable

screenshots: .venv/dev  ## docs/*.png, which README shows; needs chromium
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.screenshots

clean:  ## what the other targets made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache *.egg-info

.venv/run: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt --editable .
	touch $@

.venv/dev: .venv/run requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@
