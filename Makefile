# Two commands do all the set-up: `make lab` opens the notebooks, `make test` runs every test.
#
#   make lab                        JupyterLab on the first notebook
#   make test                       every test and every notebook      MARK="not registry" leaves a group out
#   make run                        execute all notebooks, write a gallery to build/index.html
#   make test-peers                 compare with other libraries, in an environment of their own (several GB)
#
# For those who change something:
#   make notebooks                  execute the notebooks in place, for a commit      ONLY="notebooks/01*.ipynb" just these
#   make gallery                    thumbnails and the gallery in README.md, from the executed notebooks
#   make format                     ruff over everything
#   make lock                       pin requirements.lock again (needs uv)

# The newest Python that works; PYTHON=... chooses another.
PYTHON ?= $(firstword $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	$$name -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$name; done))
BIN := .venv/bin
MARK ?=
ONLY ?= notebooks/*.ipynb
FOLDERS := helpers tests data notebooks

.PHONY: help venv lab test test-peers run notebooks gallery format lock clean

help:
	@sed '/^#/!d;s/^# \{0,1\}//;/^The newest/,$$d' Makefile

# The stamp is newer than the lock file once everything is installed: a second call does nothing.
venv: .venv/installed
.venv/installed: requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with the venv module was found. Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-input -r requirements.lock
	@touch $@

lab: venv
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

test: venv
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(MARK)"

PEERS := .venv-peers
test-peers: $(PEERS)/installed
	$(PEERS)/bin/python -m pytest tests/peers $(ARGS)
$(PEERS)/installed: tests/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-input -r $<
	@touch $@

run: venv
	$(BIN)/python -m tests.tools.run

notebooks: venv
	$(BIN)/python -m tests.tools.execute $(ONLY)
	$(BIN)/python -m tests.tools.gallery

gallery: venv
	$(BIN)/python -m tests.tools.gallery

format: venv
	$(BIN)/ruff check --fix $(FOLDERS)
	$(BIN)/ruff format $(FOLDERS)

lock:
	uv pip compile --universal --python-version 3.11 --no-header tests/requirements.txt -o requirements.lock

clean:
	rm -rf build .venv .venv-peers
