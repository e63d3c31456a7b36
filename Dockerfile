# syntax=docker/dockerfile:1
# docs/install-image.md says how to build each target. Pin the base images by digest with their build arguments.
ARG PYTHON=python:3.13-slim-bookworm
ARG BASE=debian:bookworm-slim
ARG VENDOR=scratch
# Labels of the result: where the source is, and where its documentation is.
ARG SOURCE=https://git.example.com/sealgate
ARG URL=https://git.example.com/sealgate

FROM ${PYTHON} AS build
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /tool \
 && /tool/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --requirement requirements-build.lock \
 && /tool/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --requirement requirements.lock \
    --target /packages
COPY pyproject.toml README.md LICENSE ./
COPY image image
COPY proxy proxy
COPY policies policies
# The last line runs the command in a root directory without other files, so a missing file fails the build.
RUN /tool/bin/python -m hatchling build --target wheel \
 && /tool/bin/pip install --no-cache-dir --no-deps --no-index --target /packages dist/*.whl \
 && PATH=/tool/bin:$PATH python image/tree.py /packages /laid-out \
 && chroot /laid-out /opt/sealgate/bin/sealgate --help

# Sealgate and the bundled backend.
FROM ${BASE} AS sealgate
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE
ARG URL
LABEL org.opencontainers.image.title="Sealgate" \
      org.opencontainers.image.description="An artifact plugin for Argo Workflows that encrypts what another artifact plugin stores" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.url="${URL}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /laid-out /
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PATH=/opt/sealgate/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# A number, because runAsNonRoot cannot check a name. Any other user works as well.
USER 8737:8737
ENTRYPOINT ["sealgate", "serve"]

# VENDOR is the image of the plugin to wrap, and VENDOR_PLUGIN the path of its program in that image.
FROM ${VENDOR} AS vendor

# The vendor's program copied into this image, if the program is a single file.
FROM sealgate AS with-vendor
ARG VENDOR_PLUGIN=/artifact-server
COPY --from=vendor --chmod=0555 ${VENDOR_PLUGIN} /vendor/plugin

# Sealgate copied into the vendor's image, if the program needs more files of that image.
FROM vendor AS in-vendor
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE
ARG URL
LABEL org.opencontainers.image.title="Sealgate, in a vendor's image" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.url="${URL}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /laid-out /
ENV PATH=/opt/sealgate/bin:${PATH}
USER 8737:8737
ENTRYPOINT ["sealgate", "serve"]

# The default target is the plain image.
FROM sealgate
