# syntax=docker/dockerfile:1
# Two stages: the first resolves nothing, it installs what requirements/*.txt pin and hash, and compiles the hot modules
# by mypyc; the second has Python and the result, no compiler, no pip of its own, no root.
#   docker build -t turnout .
#   docker build -t turnout --build-arg BASE=python:3.11-slim .
#   docker build -t turnout --build-arg COMPILE=0 .     pure Python: no compiler needed, a third more CPU a request
#   docker build -t turnout --build-arg VERSION=1.2.3 .     the version, which the tag gives in a checkout
# `make image-test` builds it without Docker and runs what it built.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ARG COMPILE=1
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN if [ "$COMPILE" = 1 ]; then apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev; fi
COPY requirements/ requirements/
# The locked dependencies change seldom: a layer of their own.
RUN python -m pip wheel --require-hashes --wheel-dir /wheels -r requirements/run.txt
RUN python -m venv /build && /build/bin/python -m pip install --require-hashes -r requirements/compile.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY schedulers/ schedulers/
COPY statesync/ statesync/
COPY router/ router/
COPY loadtests/sim/ loadtests/sim/
ARG VERSION=0.1.0.dev0
RUN TURNOUT_COMPILE=$COMPILE SETUPTOOLS_SCM_PRETEND_VERSION_FOR_TURNOUT=$VERSION /build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .
RUN python -m venv --without-pip /opt/turnout \
    && python -m pip --python /opt/turnout/bin/python install --no-index --no-deps /wheels/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="turnout" \
      org.opencontainers.image.description="LLM-inference request router with hot-swappable schedulers" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/turnout/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
COPY --from=build /opt/turnout /opt/turnout
# A number, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 10001:10001
WORKDIR /tmp
# Inference; control (on loopback until the config gives it another address and a token).
EXPOSE 8000 9000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
ENTRYPOINT ["turnout"]
CMD ["serve", "--config", "/etc/turnout/turnout.yaml"]
