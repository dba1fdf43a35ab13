# What a pod runs: the committed checkout with everything that requirements.lock names. ZenML builds the stage
# `checkout` (pipelines/stacks/*.yaml) and adds its own layer; by hand: docker build -t mobile-centernet .
# Another base, such as a mirror's or one with CUDA: --build-arg BASE=registry.example.com/python:3.11-slim-bookworm
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS checkout

# git: DVC works in a checkout, and every registered version names its commit.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 pipeline && git config --system --add safe.directory /app
WORKDIR /app
# The checkout's root is on the path: `steps`, `pipelines` and `sample` are run from there, not installed.
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=1 ZENML_ANALYTICS_OPT_IN=false

# Dependencies first: they change seldom. torch from PyPI brings the CUDA libraries; the node brings the driver.
COPY requirements.lock ./
RUN pip install --requirement requirements.lock

COPY --chown=pipeline:pipeline . .
RUN pip install --no-deps --no-build-isolation --editable .

# The stage that a build by hand ends with. ZenML's layer is not built on it: it has to be root once more, changes the
# owner of /app and then becomes user 1000 by itself (`user` in the stack's settings).
FROM checkout AS pipeline
# A new volume takes its owner from the folder in the image; without volumes everything goes with the container.
RUN mkdir -p /app/data /app/.work /app/.dvc/cache /app/mlartifacts \
 && chown pipeline:pipeline /app && chown -R pipeline:pipeline /app/data /app/.work /app/.dvc /app/mlartifacts
USER pipeline
ENV DVC_SITE_CACHE_DIR=/app/.work/dvc
VOLUME ["/app/data", "/app/.work", "/app/.dvc/cache"]
# docker run --volume data:/app/data --volume work:/app/.work --volume cache:/app/.dvc/cache \
#   --env MLFLOW_TRACKING_URI=https://mlflow.example.com mobile-centernet
CMD ["python", "-m", "pipelines", "training"]
