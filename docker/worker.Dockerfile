# What runs jobs, and traces. On the CPU by default:
#   docker build -f docker/worker.Dockerfile -t spinepaint-worker:0.1.0-cpu .
# with CUDA 13.0, on the same base: the wheels bring CUDA's libraries, and the host's driver and container toolkit the rest, what
# NVIDIA_DRIVER_CAPABILITIES names of it. Which GPUs a container sees is said by who starts it, and not here: none unless asked for.
#   docker build -f docker/worker.Dockerfile -t spinepaint-worker:0.1.0-cu130 \
#     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
# The base by its digest: docs/10-runbook.md, Pin the images.
ARG BASE=docker.io/library/python:3.11.15-slim-bookworm

FROM ${BASE} AS build
ARG SOURCE_DATE_EPOCH=0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY constraints.txt ./
RUN python3 -m venv /opt/build && \
    /opt/build/bin/python -m pip install --no-compile --constraint constraints.txt hatchling cyclonedx-bom && \
    python3 -m venv --without-pip /opt/spinepaint
# torch first and by itself: it is the largest layer and changes least. 2.13.0+cpu (or +cu130) sorts above PyPI's 2.13.0, so it is
# the one that is taken; what torch needs comes from either index, as pinned.
RUN /opt/build/bin/python -m pip --python /opt/spinepaint/bin/python install --no-compile --only-binary :all: \
        --constraint constraints.txt --extra-index-url "${TORCH_INDEX}" torch
COPY pyproject.toml docker/requirements.py ./
RUN /opt/build/bin/python requirements.py worker otel > requirements.txt && \
    /opt/build/bin/python -m pip --python /opt/spinepaint/bin/python install --no-compile --only-binary :all: \
        --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE NOTICE ./
COPY spinepaint spinepaint
RUN /opt/build/bin/hatchling build --target wheel --directory /dist && \
    /opt/build/bin/python -m pip --python /opt/spinepaint/bin/python install --no-compile --no-deps /dist/*.whl && \
    /opt/spinepaint/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/spinepaint/lib && \
    /opt/build/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.cdx.json /opt/spinepaint/bin/python

# docker build --target sbom --output out/sbom …: the bill of materials alone.
FROM scratch AS sbom
COPY --from=build /sbom.cdx.json /worker.cdx.json

FROM ${BASE} AS worker
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG BASE
LABEL org.opencontainers.image.title="Spinepaint worker" \
      org.opencontainers.image.description="Runs the jobs of Spinepaint" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}"
RUN echo "spinepaint:x:10001:10001:Spinepaint:/var/lib/spinepaint:/usr/sbin/nologin" >> /etc/passwd && \
    echo "spinepaint:x:10001:" >> /etc/group && \
    install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/spinepaint
COPY --chmod=0555 docker/entrypoint.sh /usr/local/bin/spinepaint-entrypoint
COPY --chmod=0444 docker/healthcheck.py /usr/local/lib/spinepaint/healthcheck.py
COPY --from=build /sbom.cdx.json /usr/share/spinepaint/sbom.cdx.json
COPY --from=build /opt/spinepaint /opt/spinepaint
ENV PATH=/opt/spinepaint/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/var/lib/spinepaint \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TMPDIR=/var/lib/spinepaint/tmp \
    SPINEPAINT_DATA_DIR=/var/lib/spinepaint \
    SPINEPAINT_MIGRATE_AT_START=false
USER 10001:10001
WORKDIR /var/lib/spinepaint
HEALTHCHECK --interval=60s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "/usr/local/lib/spinepaint/healthcheck.py", "worker"]
ENTRYPOINT ["/usr/local/bin/spinepaint-entrypoint"]
CMD ["worker"]
