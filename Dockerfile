# Image of the service. `make image` builds it with docker or podman.
#   --build-arg RUNTIME=torch       adds the torch engine, for plain checkpoints
#   --build-arg OTEL=1              adds OpenTelemetry, to export traces
#   --build-arg HEIC=1              adds the decoder of HEIC; its licence is the GPLv2 (docs/deployment.md)
#   --build-arg COLLECT=1           adds the clients of buckets, for COLLECT_TO (docs/privacy.md)
#   --build-arg TORCH_INDEX_URL=…   index for torch's wheel; empty: the index in pip's configuration
#   --build-arg BASE=…              the base image. CI builds on the one in .github/base/Dockerfile, by digest, which
#                                   Dependabot updates. By default it is the tag, so your build gets its updates.
# CI tests and scans each image, and pushes only that one.
ARG BASE=python:3.11-slim

# The service's environment. It is rebuilt only if a requirements file changes.
FROM ${BASE} AS environment
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /venv
COPY requirements.txt /
# The file lists hashes, so pip accepts nothing else.
RUN python -m pip --python /venv/bin/python install -r requirements.txt
ARG RUNTIME=onnx
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY requirements-torch.txt /
# PyPI's torch requires CUDA's packages; the CPU index's torch (2.x.y+cpu, which matches the pin 2.x.y) does not. Only
# torch comes from that index and its dependencies from PyPI, so that neither index can supply a package of the other.
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
ARG OTEL=0
COPY requirements-otel.txt /
RUN case $OTEL in \
      0) ;; \
      1) python -m pip --python /venv/bin/python install -r requirements-otel.txt ;; \
      *) echo "OTEL=$OTEL: must be 0 or 1" >&2; exit 1 ;; \
    esac
ARG HEIC=0
COPY requirements-heic.txt /
RUN case $HEIC in \
      0) ;; \
      1) python -m pip --python /venv/bin/python install -r requirements-heic.txt ;; \
      *) echo "HEIC=$HEIC: must be 0 or 1" >&2; exit 1 ;; \
    esac
ARG COLLECT=0
COPY requirements-collect.txt /
RUN case $COLLECT in \
      0) ;; \
      1) python -m pip --python /venv/bin/python install -r requirements-collect.txt ;; \
      *) echo "COLLECT=$COLLECT: must be 0 or 1" >&2; exit 1 ;; \
    esac
# Remove what the service never imports: 62 of 197 MB. ONNX Runtime's Python module contains the whole runtime; the
# library beside it is for other packages (microsoft/onnxruntime#21223). Compile the rest here, because the file
# system is read-only where the image runs, so every start would compile it again. Some files of torch are for a
# later Python and can't be compiled.
RUN packages=$(echo /venv/lib/python3*/site-packages) && \
    rm -rf "$packages"/onnxruntime/capi/libonnxruntime.so* \
      "$packages"/onnxruntime/quantization "$packages"/onnxruntime/tools "$packages"/onnxruntime/transformers && \
    find "$packages" -type d -name tests -prune -exec rm -r {} + && \
    { python -m compileall -qq -j 0 --invalidation-mode unchecked-hash "$packages" || true; }

FROM environment AS code
WORKDIR /srv
COPY app/ app/
# The only part of the pipeline that the service imports.
COPY ml/__init__.py ml/
COPY ml/model/ ml/model/
# The build fails unless each installed engine loads and runs the default model. The model gets a layer of its own
# below. Files that a checkout makes private to their owner must be readable for another user here.
RUN /venv/bin/python -B -c "from importlib.util import find_spec; from app import settings; from app.inference import loading; \
      kinds = ['onnx', 'torch'] if find_spec('torch') else ['onnx']; \
      [loading.load(settings.EMBEDDED, kind, 1) for kind in kinds]" && \
    mv app/default /default && \
    python -m compileall -q --invalidation-mode unchecked-hash . && \
    chmod -R a+rX . /default

FROM ${BASE}
RUN groupadd --gid 10001 app && \
    useradd --uid 10001 --gid app --no-log-init --no-create-home --home-dir /cache --shell /usr/sbin/nologin app && \
    install -d -o app -g app -m 1777 /cache
# The service writes only to /cache: downloaded models, and uploads that are too large for memory. Everyone may write
# there, as in /tmp, because a tmpfs that is mounted there keeps the folder's mode but not its owner.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PORT=8080 MODEL_CACHE_DIR=/cache TMPDIR=/cache
WORKDIR /srv
# In the order of how rarely they change.
COPY --from=environment /venv /venv
COPY --from=code /default app/default
COPY --from=code /srv /srv
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# /health and not /ready: orchestrators replace unhealthy containers, and a container that downloads its model or drains
# is healthy, though not ready. By path and without site-packages, it takes 30 ms; `-m` would import the app.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-I", "-S", "app/healthcheck.py"]
CMD ["python", "-m", "app"]

# `make image` adds version, revision, created and source with --label: as build arguments, podman's cache would keep
# those of an earlier build.
LABEL org.opencontainers.image.title="cats-vs-dogs" \
      org.opencontainers.image.description="Image classification over HTTP: cats and dogs, or the classes of your own model"
