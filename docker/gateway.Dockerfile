# The HTTP gateway and the migrations: everything but what computes, so no torch; and traces.
#   docker build -f docker/gateway.Dockerfile -t spinepaint-gateway:0.1.0 .
# The base by its digest: docs/10-runbook.md, Pin the images.
ARG BASE=docker.io/library/python:3.11.15-slim-bookworm

FROM ${BASE} AS build
ARG SOURCE_DATE_EPOCH=0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY constraints.txt ./
RUN python3 -m venv /opt/build && \
    /opt/build/bin/python -m pip install --no-compile --constraint constraints.txt hatchling cyclonedx-bom && \
    python3 -m venv --without-pip /opt/spinepaint
# The dependencies are a layer of their own: a change of the code alone installs none of them again.
COPY pyproject.toml docker/requirements.py ./
RUN /opt/build/bin/python requirements.py otel > requirements.txt && \
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
COPY --from=build /sbom.cdx.json /gateway.cdx.json

FROM ${BASE} AS gateway
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG BASE
LABEL org.opencontainers.image.title="Spinepaint gateway" \
      org.opencontainers.image.description="HTTP gateway and migrations of Spinepaint" \
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
    TMPDIR=/var/lib/spinepaint/tmp \
    SPINEPAINT_DATA_DIR=/var/lib/spinepaint \
    SPINEPAINT_HOST=0.0.0.0 \
    SPINEPAINT_PORT=8000 \
    SPINEPAINT_MIGRATE_AT_START=false
USER 10001:10001
WORKDIR /var/lib/spinepaint
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "/usr/local/lib/spinepaint/healthcheck.py", "gateway"]
ENTRYPOINT ["/usr/local/bin/spinepaint-entrypoint"]
CMD ["serve", "--no-worker"]
