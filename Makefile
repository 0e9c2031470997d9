# Two commands do all the set-up: `make lab` opens the notebooks, `make test` runs every test.
#
#   make lab                        JupyterLab on the first notebook
#   make app                        the explorers as an app in the browser, without code      ARGS=--no-browser
#   make test                       every test and every notebook      MARK="not registry" leaves a group out
#   make run                        execute all notebooks, write a gallery to build/index.html
#   make handout                    for a class: worksheets to print, student and instructor copies, in build/handout/
#   make test-peers                 compare with other libraries, in an environment of their own (several GB)
#   make test-colab                 run every notebook with the versions of Colab, in an environment of their own
#
# For those who change something:
#   make notebooks                  execute the notebooks in place, for a commit      ONLY="notebooks/01*.ipynb" just these
#   make gallery                    thumbnails and the gallery in README.md, from the executed notebooks
#   make publish REPO=owner/name    write into badges, bootstrap cells and README where the project is; BRANCH=tag
#   make check                      what takes long left out: run it while you work      ARGS=tests/test_cam.py just this
#   make format                     ruff over everything
#   make lock                       pin requirements.lock again (needs uv)

# The newest Python that works; PYTHON=... chooses another.
PYTHON ?= $(firstword $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	$$name -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$name; done))
# Colab's own; where no such command is on the path, pyenv or uv may have one.
COLAB_PYTHON ?= $(firstword $(shell for name in python3.12 python3 python $(HOME)/.pyenv/versions/3.12.*/bin/python \
	$$(uv python find 3.12 2>/dev/null); do \
	$$name -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null && echo $$name; done))
BIN := .venv/bin
MARK ?=
ONLY ?= notebooks/[0-9]*.ipynb
APP ?= notebooks/app.ipynb
FOLDERS := helpers tests data notebooks

.PHONY: help venv lab app test check test-peers test-colab run handout notebooks gallery publish format lock clean

help:
	@sed '/^#/!d;s/^# \{0,1\}//;/^The newest/,$$d' Makefile

# The stamp is newer than the lock file once everything is installed: a second call only writes the settings.
venv: .venv/installed
	@$(BIN)/python -m tests.tools.settings
.venv/installed: requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with the venv module was found. Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-input -r requirements.lock
	@touch $@

lab: venv
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(ARGS)

# Each visitor gets a kernel of their own, of about 1 GB once an explorer is chosen.
app: venv
	$(BIN)/voila $(APP) $(ARGS)

IN_PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
test: venv
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "$(MARK)"

check: venv
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not (browser or colab or registry or slow)" $(or $(ARGS),tests)

PEERS := .venv-peers
test-peers: $(PEERS)/installed
	$(PEERS)/bin/python -m pytest tests/peers $(ARGS)
$(PEERS)/installed: tests/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-input -r $<
	@touch $@

COLAB := .venv-colab
COLAB_TESTS := tests/colab notebooks $(wildcard $(patsubst %,tests/test_%*.py,background environment exercises explore images plots publish))
test-colab: $(COLAB)/installed
	$(COLAB)/bin/python -m pytest $(or $(ARGS),$(COLAB_TESTS))
$(COLAB)/installed: tests/colab/requirements.txt
	@test -n "$(COLAB_PYTHON)" || { echo "No Python 3.12 with the venv module was found. Install one (pyenv install 3.12, or uv python install 3.12), or name it: make test-colab COLAB_PYTHON=/path/to/python3.12"; exit 1; }
	$(COLAB_PYTHON) -m venv $(COLAB)
	$(COLAB)/bin/python -m pip install --disable-pip-version-check --no-input -r $<
	@touch $@

run: venv
	$(BIN)/python -m tests.tools.run

handout: venv
	$(BIN)/python -m tests.tools.handout

notebooks: venv
	$(BIN)/python -m tests.tools.execute $(ONLY)
	$(BIN)/python -m tests.tools.gallery

gallery: venv
	$(BIN)/python -m tests.tools.gallery

publish: venv
	$(BIN)/python -m tests.tools.publish $(if $(REPO),--repository "$(REPO)") $(if $(BRANCH),--branch "$(BRANCH)")

format: venv
	$(BIN)/ruff check --fix $(FOLDERS)
	$(BIN)/ruff format $(FOLDERS)

lock:
	uv pip compile --universal --python-version 3.11 --no-header tests/requirements.txt -o requirements.lock

clean:
	rm -rf build .venv .venv-peers .venv-colab
