.DEFAULT_GOAL := help
.PHONY: help setup run edge test test-stress fuzz history lint format bench soak soak-edge console-scale documents requirements

BIN := .venv/bin
COMPILE := $(CURDIR)/$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links
# Settings for the checks; with the optional clusters, so that the documents describe all routes.
CHECK := ENVIRONMENT=test JWT_SECRET_KEY=only-for-checks-that-contact-nothing REDIS_URL=redis://redis \
	SQLITE_PATH=var/check.sqlite3 RDP_SERVICES_URL=http://rdp NODE_MANAGEMENT_URL=http://nodes \
	STORAGE_DATABASE_URL=http://storage
# Four files at a time: on two cores, as tests often wait. Those that measure time run alone, on a quiet machine.
SIDE_BY_SIDE := -n 4 --dist loadfile --no-loadscope-reorder -m "not quiet"
SCALE = $(BIN)/python -m lucid_gateway.console.tests.scale --rows $(or $(ROWS),1000000) --data $(or $(DATA),var/scale)
POLICY := $(CHECK) $(BIN)/python manage.py export_policy
SPECTACULAR := $(CHECK) $(BIN)/python manage.py spectacular --validate --fail-on-warn

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed-test ## install everything into .venv

# These files mark when requirements were installed. Those of the tests include those of `make run`.
.venv/.installed-test: requirements/test.txt
	@requirements/install.sh test
	@touch .venv/.installed-local $@

.venv/.installed-local: requirements/local.txt
	@requirements/install.sh local
	@touch $@

run: .venv/.installed-local ## start the gateway and its servers on http://127.0.0.1:8080, until Ctrl-C
	@exec $(BIN)/python -m demo

edge: .venv/.installed-local ## start the same with the edge, nginx with Lua, in front of the gateway
	@exec $(BIN)/python -m demo --edge

# Let the six runs share the compiled tests.
test: export PYTHONDONTWRITEBYTECODE :=
test: setup ## run the whole suite on SQLite, then its data tests on MongoDB
	$(BIN)/pytest $(SIDE_BY_SIDE)
	$(BIN)/pytest -m quiet
	$(BIN)/pytest $(SIDE_BY_SIDE) --plane edge
	$(BIN)/pytest -m quiet --plane edge
	$(BIN)/pytest $(SIDE_BY_SIDE) --database mongodb
	$(BIN)/pytest -m quiet --database mongodb

test-stress: setup ## run the suite RUNS times (5) while all cores are busy, to find flaky tests
	@$(BIN)/python -m testing.stress --runs $(or $(RUNS),5)

fuzz: setup ## run the property-based tests with 50 times as many examples, new ones each time (ten minutes)
	$(BIN)/pytest -n 2 --dist loadfile --hypothesis-profile fuzz --timeout 3600 -m hypothesis

# The history, the verdicts and the logs stay in var/history. REDIS is single, sentinel or cluster.
history: setup ## run MINUTES (10) of faults on REDIS (single) with SEED (1), and judge what the clients saw
	@$(BIN)/python -m testing.history --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1) --redis $(or $(REDIS),single)

lint: setup ## check style, types, imports, migrations and the generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(CHECK) $(BIN)/mypy
	$(CHECK) $(BIN)/python manage.py makemigrations --check --dry-run
	$(CHECK) $(BIN)/python manage.py check --deploy --tag compatibility
	$(BIN)/lint-imports
	$(SPECTACULAR) | diff -u docs/openapi.yaml - || { echo "docs/openapi.yaml is outdated: run make documents"; exit 1; }
	$(POLICY) | diff -u docs/policy.json - || { echo "docs/policy.json is outdated: run make documents"; exit 1; }

format: setup ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

documents: setup ## regenerate docs/openapi.yaml and docs/policy.json
	$(SPECTACULAR) --file docs/openapi.yaml
	$(POLICY) > docs/policy.json

# A quarter of an hour for each database, and the first time half an hour more to fill it. The databases stay in DATA.
console-scale: setup ## open every page of the console with ROWS (1000000) users, audit events and requests; see DATA
	$(SCALE) --database sqlite
	$(SCALE) --database mongodb

bench: setup ## run the load harness
	$(BIN)/python -m benchmarks

soak: setup ## send 50,000 requests during 20 rolling restarts; none may fail (a few minutes)
	$(BIN)/pytest -s --timeout 3600 deploy/tests/test_rolling_restarts.py --restarts 20 --requests 50000

soak-edge: setup ## load the edge with 10,000 idle connections and 1,000 streams, and take its gateway away for 5 minutes
	$(BIN)/pytest -s --timeout 3600 proxy/tests/edge/test_load.py --idle 10000 --streams 1000 --minutes 5

requirements: setup ## compile requirements/*.in to hashed *.txt
	cd requirements && for name in uv base production local test; do $(COMPILE) -o $$name.txt $$name.in || exit 1; done
	cd benchmarks && $(COMPILE) -o requirements.txt requirements.in
