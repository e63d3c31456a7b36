# syntax=docker/dockerfile:1
# The proxy and the bundled backend. To wrap a vendor's plugin, copy it in:
#   FROM vendor/plugin AS vendor
#   FROM sealgate
#   COPY --from=vendor /artifact-server /vendor/plugin

FROM python:3.13-slim-bookworm AS build
WORKDIR /build
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY proxy proxy
COPY policies policies
COPY backend backend
# The build tool comes by hash, too; it stays in this stage.
COPY requirements-dev.lock ./
RUN python -m venv /tool \
 && /tool/bin/pip install --no-cache-dir --require-hashes --requirement requirements-dev.lock \
 && python -m venv /opt/sealgate \
 && /opt/sealgate/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --requirement requirements.lock \
 && /tool/bin/python -m hatchling build --target wheel \
 && /opt/sealgate/bin/pip install --no-cache-dir --no-deps --no-index dist/*.whl \
 && /opt/sealgate/bin/pip uninstall --yes pip \
 && /opt/sealgate/bin/python -m compileall -q /opt/sealgate/lib

FROM python:3.13-slim-bookworm
COPY --from=build /opt/sealgate /opt/sealgate
ENV PATH=/opt/sealgate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
# Numeric, so that runAsNonRoot can tell; any other user works as well.
USER 8737:8737
ENTRYPOINT ["sealgate", "serve"]
