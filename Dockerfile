# Two stages: the first installs as `make install` does, the second keeps what runs. The built-in model comes with the
# installed packages, so the container needs no network.

FROM python:3.11-slim-bookworm AS build
# An index with builds of torch for the CPU alone keeps the image small: see docker-compose.yml.
ARG TORCH_INDEX_URL=""
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /srv/sheaf
# Only what the installation reads, so that a change of code or of a text installs nothing again; the package's own
# description and licence are in the image all the same. Of torch go its tests, its headers and its tools, 190 MB,
# but the one that it wants to see when it is imported.
COPY pyproject.toml requirements.lock Makefile ./
RUN mkdir app && touch app/__init__.py README.md LICENSE \
    && PIP_NO_CACHE_DIR=1 make install VENV=/opt/sheaf TORCH_INDEX_URL="$TORCH_INDEX_URL" \
    && cd /opt/sheaf/lib/python3.11/site-packages/torch \
    && rm -r include test \
    && find bin -type f ! -name torch_shm_manager -delete

FROM python:3.11-slim-bookworm
# Fixed numbers: whoever mounts a folder of the host gives it to 10001:10001.
RUN groupadd --system --gid 10001 sheaf \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin sheaf
WORKDIR /srv/sheaf
COPY --from=build /opt/sheaf /opt/sheaf
COPY pyproject.toml README.md LICENSE ./
COPY scripts scripts
COPY app app
# The built-in model is converted once, and loops are compiled, not in every volume.
RUN /opt/sheaf/bin/python -m app.encoders.prepare
RUN /opt/sheaf/bin/python -m app.catalogue.prepare
# Owned by the user, so that a new volume mounted here is too.
COPY --chown=sheaf:sheaf indexes/README.md indexes/README.md
RUN chown sheaf:sheaf indexes
ENV PATH=/opt/sheaf/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/tmp/hf \
    SHEAF_HOST=0.0.0.0 \
    SHEAF_PORT=8000 \
    SHEAF_INDEXES=/srv/sheaf/indexes
USER sheaf
VOLUME /srv/sheaf/indexes
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['SHEAF_PORT'] + '/health/live', timeout=4)"]
CMD ["python", "-m", "app"]
