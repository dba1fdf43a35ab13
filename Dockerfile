# What a pod runs: the committed checkout with everything that requirements.lock names. ZenML builds it
# (pipelines/stacks/*.yaml) and adds its own layer; by hand: docker build -t mobile-centernet .
FROM python:3.11-slim-bookworm

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

COPY . .
RUN pip install --no-deps --no-build-isolation --editable .

# No USER here: ZenML's layer changes the owner of /app and then becomes user 1000 (`user` in the stack's settings).
# By hand: docker run --user 1000 --volume ...:/app/data mobile-centernet
CMD ["python", "-m", "pipelines", "training"]
