# Hardwire in a container.
#
#   docker build -t hardwire .                         the emulated W5100
#   docker build -t hardwire --build-arg EXTRAS=spi .  a real one on /dev/spidevB.D
#   docker run -v ./hardwire.yaml:/config/hardwire.yaml:ro -v hardwire-data:/data hardwire
#
# In /config/hardwire.yaml the outbox belongs on the data volume: `outbox: {path: /data/hardwire.db}`.
# For a real chip add: --device /dev/spidev0.0 --group-add "$(stat -c %g /dev/spidev0.0)"
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
# Empty, or those of pyproject.toml's extras that a board needs: spi, or spi,gpio with /INT and /RESET.
ARG EXTRAS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN case "${EXTRAS}" in ""|spi|spi,gpio) ;; \
      *) echo "EXTRAS may be empty, spi, or spi,gpio; not '${EXTRAS}'" >&2; exit 1 ;; esac
# spidev has no wheels; the compiler stays behind in this stage.
RUN [ -z "${EXTRAS}" ] || { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev; }
# /build has the build backend, /opt/hardwire is what the image gets.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/hardwire
COPY requirements ./requirements
# Every file is checked against a lock's hashes here, on its way into /wheels.
RUN if [ -z "${EXTRAS}" ]; then \
      /build/bin/pip wheel --require-hashes --no-deps -w /wheels -r requirements/run.lock; \
    else \
      /build/bin/pip install --require-hashes -r requirements/board-build.lock \
      && /build/bin/pip wheel --require-hashes --no-deps --no-build-isolation -w /wheels -r requirements/board.lock; \
    fi \
 && /build/bin/pip install --no-index --find-links /wheels hatchling editables
COPY pyproject.toml README.md LICENSE ./
COPY plugin ./plugin
RUN /build/bin/pip wheel --no-deps --no-build-isolation --no-index -w /wheels .
# From /wheels alone, and only what the product's own metadata asks for: the build backend stays behind.
RUN /build/bin/pip --python /opt/hardwire/bin/python install --no-index --find-links /wheels "hardwire${EXTRAS:+[${EXTRAS}]}"

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="hardwire" \
      org.opencontainers.image.description="Alerts from MQTT leave as mail through a WIZnet W5100" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 hardwire \
 && useradd --uid 10001 --gid hardwire --home-dir /data --no-create-home --shell /usr/sbin/nologin hardwire \
 && install -d -o root -g hardwire -m 0750 /config \
 && install -d -o hardwire -g hardwire -m 0700 /data
COPY --from=builder /opt/hardwire /opt/hardwire
ENV PATH=/opt/hardwire/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME ["/config", "/data"]
STOPSIGNAL SIGTERM
# No HEALTHCHECK: the process ends with a non-zero code as soon as one of its threads cannot go on, so a container that
# runs is one that works, and what its relay and chip are doing stands on alerts/bridge/health, retained.
ENTRYPOINT ["hardwire"]
CMD ["run", "--config", "/config/hardwire.yaml"]
