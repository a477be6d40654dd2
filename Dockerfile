# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/dataloader
COPY requirements/runtime.txt /build/requirements/runtime.txt
RUN /opt/dataloader/bin/pip install --require-hashes --no-deps --only-binary=:all: -r /build/requirements/runtime.txt

# The package itself is built beside its environment, so that no build tool ends up in it.
RUN python -m venv /build/tools && /build/tools/bin/pip install 'poetry-core>=2.2'
COPY pyproject.toml README.md LICENSE /build/
COPY src /build/src
RUN /build/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/dist /build \
    && /opt/dataloader/bin/pip install --no-deps /build/dist/*.whl \
    && /opt/dataloader/bin/pip uninstall --yes pip

FROM python:3.13-slim

RUN groupadd --system --gid 10001 dataloader \
    && useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin dataloader
COPY --from=build /opt/dataloader /opt/dataloader

ENV PATH=/opt/dataloader/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv
USER 10001:10001
EXPOSE 8081

# Of the API. A worker has no port: switch the check off there, as compose.yaml does.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('APP_PORT', '8081') + '/health', timeout=2).close()"]

ENTRYPOINT ["dataloader"]
