# make run · make test · make bench · make audit

PYTHON ?= python3
PORT := $(or $(PORT),8000)
BIN := .venv/bin
# Debian keeps the server out of the PATH.
POSTGRES := { command -v postgres || ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 \
	|| { apt-get update -qq && apt-get install -y -qq postgresql; }
TOOLS := { command -v chromium && command -v npm && command -v promtool; } >/dev/null \
	|| { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium npm prometheus; }

.PHONY: run test lint bench audit
.DELETE_ON_ERROR:

run: .venv/run  ## serve on PORT (8000)
	exec $(BIN)/uvicorn main:app --workers 1 --port $(PORT) --timeout-graceful-shutdown 10 --no-server-header

test: .venv/dev .venv/node  ## every test
	-$(POSTGRES)
	$(BIN)/pytest --numprocesses 2 --dist loadfile

lint: .venv/dev  ## what CI runs beside the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

bench: .venv/dev  ## the figures, each beside its yardstick, and all of them on a page
	$(POSTGRES)
	command -v wrk >/dev/null || { apt-get update -qq && apt-get install -y -qq wrk; }
	command -v redis-server >/dev/null || { apt-get update -qq && apt-get install -y -qq redis-server; }
	SOAK_SECONDS=600 $(BIN)/python -m benchmarks

audit: .venv/dev  ## known weaknesses of what is pinned; asks the advisory databases
	$(BIN)/pip-audit --requirement requirements.txt

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sluice needs Python 3.11 or newer; name one with PYTHON=")'
	@# Debian's python3 comes without what makes environments.
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; } \
		|| { echo 'Sluice needs the module ensurepip: install python3-venv (or your system'"'"'s like)'; exit 1; }
	$(PYTHON) -m venv .venv

.venv/node: tests/node/package.json tests/node/package-lock.json | .venv/bin/python
	-$(TOOLS)
	npm ci --prefix tests/node --silent
	touch $@

.venv/run: requirements.txt | .venv/bin/python
	$(BIN)/pip install --quiet --requirement requirements.txt
	touch $@

.venv/dev: requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	touch $@
