# The course's commands. `make run` is all that a student needs; it sets up .venv on its first call.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

unexport PYTHONDONTWRITEBYTECODE  # many images set it; each of our processes would then compile torch anew

NBVAL := $(BIN)/python -m pytest notebooks -q --nbval-lax --nbval-current-env --nbval-cell-timeout=300 -n 2 --dist loadfile
PLAYWRIGHT := playwright==1.65.2 axe-playwright-python==0.1.8  # bring no browser: tests use the machine's Chromium

.PHONY: run lab test test-faults test-launch test-colab test-binder test-browser test-offline test-doctor test-floors test-grade test-worlds coverage lint export translations outputs study bench badges lock site test-site clean

run: .venv/ready  ## execute every lesson at its real settings; pages and films in build/lessons/
	$(BIN)/python tools/run_lessons.py

lab: .venv/ready  ## open the lessons in JupyterLab
	$(BIN)/jupyter trust notebooks/*.ipynb  # their films play before a cell has run
	@# From up here, where the start page's picture is. Reading a lesson changes nothing in it: Jupyter would write the number of the reader's Python.
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/index.ipynb --ContentsManager.pre_save_hook=cartpole_lessons._support.files.without_version

test: lint  ## lint, the package's tests, the export check, and every notebook
	$(BIN)/python -m pytest tests -q -n 2 --dist worksteal --durations=10 --durations-min=0.5
	$(NBVAL)

test-faults: .venv/test-ready  ## what breaks for real, as often as the README says; minutes; figures into cartpole_lessons/results/
	FAULTS=full $(BIN)/python -m pytest tests/test_faults.py tests/test_tools.py tests/test_hyperparameters.py tests/test_crafted_files.py tests/test_video.py -q

test-launch: test-colab test-binder test-browser test-offline test-doctor test-floors  ## every place where the course starts; minutes, and a package index

test-colab test-binder test-offline test-doctor test-floors test-grade: test-%: .venv/test-ready  ## one of them; what each does, its file in tests/launch/ says
	$(BIN)/python -m pytest tests/launch/test_$*.py -q

test-browser: .venv/test-ready  ## lessons in JupyterLab, Notebook 7 and as pages, in Chromium; screenshots in build/browser/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PLAYWRIGHT)
	$(BIN)/python -m pytest tests/launch/test_browser.py -q

test-worlds: .venv/ready  ## every lesson with another CPU's arithmetic, and with other seeds: does what it asserts hold there too?
	$(BIN)/python tools/worlds.py

coverage: .venv/test-ready  ## which lines of the package no test runs
	$(BIN)/python -m pytest tests -q -n 2 --dist worksteal --cov --cov-report=term --cov-fail-under=90

lint: .venv/test-ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

export: .venv/test-ready  ## notebooks -> cartpole_lessons/algorithms/
	$(BIN)/python tools/export.py

translations: .venv/test-ready  ## notebooks and translations/*.po -> notebooks/LANGUAGE/, executed where their code has changed
	$(BIN)/python tools/translate.py

outputs: .venv/ready  ## execute the lessons and write their outputs into notebooks/
	$(BIN)/python tools/run_lessons.py --in-place

study: .venv/ready  ## train every algorithm on a hundred seeds, resumable; figures into cartpole_lessons/results/ and docs/
	$(BIN)/python benchmarks/measure.py

bench: .venv/test-ready  ## what has to be quick, against its bar: imports, environment, replay memory, every lesson together
	$(BIN)/python benchmarks/starting.py
	$(BIN)/python benchmarks/environments.py
	$(BIN)/python benchmarks/replay.py
	$(BIN)/python benchmarks/lessons.py $(NBVAL)

badges: .venv/ready  ## pyproject's address and the results -> badges, install cells, tables, sentences
	$(BIN)/python tools/badges.py

site: .venv/ready  ## the course as a site of plain files, in build/site/; nothing is executed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[site]'
	$(BIN)/python tools/website.py

test-site: .venv/test-ready  ## that site from a disk, without a network, in Chromium, a quarter of an hour on two busy cores; pictures of every page in build/site-pictures/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PLAYWRIGHT) --editable '.[site]'
	$(BIN)/python -m pytest tests/launch/test_site.py -q

lock: requirements.txt requirements-test.txt  ## constraints.txt anew, from an environment that follows these alone
	$(PYTHON) tools/lock.py

.venv/ready: requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv --without-pip .venv
	$(BIN)/python -m ensurepip --default-pip  # which venv would do without a word
	$(BIN)/python tools/install.py
	$(BIN)/python -c "open('.venv/ready', 'w').close()"

.venv/test-ready: .venv/ready requirements-test.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-test.txt
	$(BIN)/python -c "open('.venv/test-ready', 'w').close()"

clean:  ## remove what the commands above made
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .coverage*
