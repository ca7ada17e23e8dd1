# syntax=docker/dockerfile:1
# An image in which `sft` is the command, with the versions of constraints.txt.
#
#   docker build -t sft-kit .                   NVIDIA GPUs; the driver comes from the host
#   docker build -t sft-kit --target cpu .      no GPU; with --build-arg TORCH_INDEX=... a third of the size
#   docker run --rm -v "$PWD:/work" sft-kit plan train.yaml
#
# TORCH_INDEX is the address of PyTorch's wheels for CPUs, or for another CUDA, as its install page gives it. Without it
# torch comes from the index that pip is set to, which has the build for GPUs; that one runs without a GPU too.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS base
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    HF_HOME=/cache/huggingface SFT_CACHE_DIR=/cache/sft
WORKDIR /opt/sft-kit
RUN useradd --create-home --uid 1000 sft && mkdir -p /cache /work && chown 1000:1000 /cache /work
# torch first and alone: it is most of the image, and changes least.
COPY constraints.txt ./
RUN grep '^torch==' constraints.txt > torch.txt \
    && pip install -c constraints.txt -r torch.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
COPY pyproject.toml README.md LICENSE ./
COPY src src

FROM base AS cpu
ARG EXTRAS=all
RUN pip install -c constraints.txt ".[${EXTRAS}]"
USER 1000
WORKDIR /work
ENTRYPOINT ["sft"]
CMD ["--help"]

FROM base AS cuda
ARG EXTRAS=all,torchao
# Kernels of torch.compile are built where they run, which takes a compiler.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN pip install -c constraints.txt ".[${EXTRAS}]"
USER 1000
WORKDIR /work
ENTRYPOINT ["sft"]
CMD ["--help"]
