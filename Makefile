.DEFAULT_GOAL := help
.PHONY: help setup run test test-stress fuzz lint format bench soak documents requirements

BIN := .venv/bin
COMPILE := $(CURDIR)/$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links
# Settings for the checks: every route is described, those of the optional clusters too.
CHECK := ENVIRONMENT=test JWT_SECRET_KEY=only-for-checks-that-contact-nothing REDIS_URL=redis://redis \
	SQLITE_PATH=var/check.sqlite3 RDP_SERVICES_URL=http://rdp NODE_MANAGEMENT_URL=http://nodes \
	STORAGE_DATABASE_URL=http://storage
# Two files at a time; tests that measure time run on their own, on a quiet machine.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder -m "not quiet"
POLICY := $(CHECK) $(BIN)/python manage.py export_policy
SPECTACULAR := $(CHECK) $(BIN)/python manage.py spectacular --validate --fail-on-warn

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed-test ## install everything into .venv

# What a file of requirements had when it was installed. What the tests need includes what `make run` needs.
.venv/.installed-test: requirements/test.txt
	@requirements/install.sh test
	@touch .venv/.installed-local $@

.venv/.installed-local: requirements/local.txt
	@requirements/install.sh local
	@touch $@

run: .venv/.installed-local ## start the gateway and all it needs on http://127.0.0.1:8080, until Ctrl-C
	@exec $(BIN)/python -m demo

# The four runs compile the tests once.
test: export PYTHONDONTWRITEBYTECODE :=
test: setup ## run the whole suite on SQLite, then its data tests on MongoDB
	$(BIN)/pytest $(SIDE_BY_SIDE)
	$(BIN)/pytest -m quiet
	$(BIN)/pytest $(SIDE_BY_SIDE) --database mongodb
	$(BIN)/pytest -m quiet --database mongodb

test-stress: setup ## run the suite RUNS times (5) with all cores busy beside it, to find tests that fail now and then
	@$(BIN)/python -m testing.stress --runs $(or $(RUNS),5)

fuzz: setup ## try 50 times as many examples in each test that makes them up, new ones each time: ten minutes
	$(BIN)/pytest -n 2 --dist loadfile --hypothesis-profile fuzz --timeout 3600 -m hypothesis

lint: setup ## check style, types, import directions, migrations and the committed OpenAPI document
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(CHECK) $(BIN)/mypy
	$(CHECK) $(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/lint-imports
	$(SPECTACULAR) | diff -u docs/openapi.yaml - || { echo "docs/openapi.yaml is old: run make documents"; exit 1; }
	$(POLICY) | diff -u docs/policy.json - || { echo "docs/policy.json is old: run make documents"; exit 1; }

format: setup ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

documents: setup ## write docs/openapi.yaml and docs/policy.json anew
	$(SPECTACULAR) --file docs/openapi.yaml
	$(POLICY) > docs/policy.json

bench: setup ## run the load harness
	$(BIN)/python -m benchmarks

soak: setup ## show that no request fails: 50,000 of them in 20 rolling restarts, a few minutes
	$(BIN)/pytest -s --timeout 3600 deploy/tests/test_rolling_restarts.py --restarts 20 --requests 50000

requirements: setup ## compile requirements/*.in to hashed *.txt
	cd requirements && for name in uv base production local test; do $(COMPILE) -o $$name.txt $$name.in || exit 1; done
	cd benchmarks && $(COMPILE) -o requirements.txt requirements.in
