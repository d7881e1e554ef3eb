# The service in an image. `make image` builds it; docker and podman both do.
#   --build-arg RUNTIME=torch       adds the torch engine, for plain checkpoints
#   --build-arg TORCH_INDEX_URL=…   where its wheel comes from; empty: the index that pip is set to
ARG BASE=python:3.11-slim

# What serves, in an environment of its own. Built again only when a requirements file changes.
FROM ${BASE} AS environment
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /venv
COPY requirements.txt /
RUN python -m pip --python /venv/bin/python install -r requirements.txt
ARG RUNTIME=onnx
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY requirements-torch.txt /
# The pins are constraints here: PyPI's torch brings CUDA along, the CPU index's (2.x.y+cpu, which fits the pin
# 2.x.y) doesn't, and so none of CUDA's pins comes in. torch alone is taken from that index, what it needs from
# PyPI, so that neither can slip in a package of the other's.
RUN case $RUNTIME in \
      onnx) ;; \
      torch) \
        if [ -n "$TORCH_INDEX_URL" ]; then \
          python -m pip --python /venv/bin/python install --no-deps --index-url "$TORCH_INDEX_URL" \
            -c requirements-torch.txt torch; \
        fi && \
        python -m pip --python /venv/bin/python install -c requirements-torch.txt torch ;; \
      *) echo "RUNTIME=$RUNTIME: must be onnx or torch" >&2; exit 1 ;; \
    esac
# What serving never imports: 62 of 197 MB. The Python module has all of ONNX Runtime in it; the library beside it
# is for other packages (microsoft/onnxruntime#21223). What is left is compiled here, since nothing can be written
# where it runs, and each start would compile it again; torch has files for a later Python that can't be.
RUN packages=$(echo /venv/lib/python3*/site-packages) && \
    rm -rf "$packages"/onnxruntime/capi/libonnxruntime.so* \
      "$packages"/onnxruntime/quantization "$packages"/onnxruntime/tools "$packages"/onnxruntime/transformers && \
    find "$packages" -type d -name tests -prune -exec rm -r {} + && \
    { python -m compileall -qq -j 0 --invalidation-mode unchecked-hash "$packages" || true; }

FROM environment AS code
WORKDIR /srv
COPY app/ app/
# Of the pipeline, what the service imports.
COPY ml/__init__.py ml/answering.py ml/bundle.py ml/checkpoint.py ml/errors.py ml/image.py ml/known.py \
     ml/manifest.py ml/memory.py ml/networks.py ml/reference.py ml/
# An image isn't made unless each engine in it loads and runs the default model. The model gets a layer of its own
# below. What a checkout keeps to its owner has to be readable for another user here.
RUN /venv/bin/python -B -c "from importlib.util import find_spec; from app import engine, settings; \
      kinds = ['onnx', 'torch'] if find_spec('torch') else ['onnx']; \
      [engine.load(settings.EMBEDDED, kind, 1) for kind in kinds]" && \
    mv app/default /default && \
    python -m compileall -q --invalidation-mode unchecked-hash . && \
    chmod -R a+rX . /default

FROM ${BASE}
RUN groupadd --gid 10001 app && \
    useradd --uid 10001 --gid app --no-log-init --no-create-home --home-dir /cache --shell /usr/sbin/nologin app && \
    install -d -o app -g app -m 1777 /cache
# /cache is the one folder that is written to: models that were downloaded, and uploads too large to be held in
# memory. As /tmp it lets everyone, for a tmpfs mounted there takes over the mode but not the owner.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PORT=8080 MODEL_CACHE_DIR=/cache TMPDIR=/cache
WORKDIR /srv
# From what changes least to what changes most.
COPY --from=environment /venv /venv
COPY --from=code /default app/default
COPY --from=code /srv /srv
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# /health and not /ready: whoever acts on this replaces the container, and one that downloads its model or drains
# is not ready but well. By path and without site-packages: it takes 30 ms, where `-m` would import the app.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-I", "-S", "app/healthcheck.py"]
CMD ["python", "-m", "app"]

# `make image` adds version, revision, created and source by --label: podman's cache would keep those of an earlier
# build if they came as build arguments.
LABEL org.opencontainers.image.title="cats-vs-dogs" \
      org.opencontainers.image.description="Tells cats from dogs, or what its model was trained on, over HTTP"
