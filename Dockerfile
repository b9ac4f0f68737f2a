# The same steps as `make venv`, in an image: docker build -t adabc_lightning .
#   docker run --rm -v "$PWD/runs:/runs" adabc_lightning fit --config hopper.yaml \
#       --trainer.default_root_dir /runs/hopper
# What is written elsewhere ends with the container.
FROM python:3.11-slim

# MuJoCo needs no display to simulate; EGL is there for rendering.
RUN apt-get update && apt-get install -y --no-install-recommends libegl1 libgl1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/adabc_lightning
# A torch without CUDA; --build-arg TORCH_INDEX=https://pypi.org/simple for one with it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" torch
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY experiments experiments
COPY adabc_lightning adabc_lightning
RUN pip install --no-cache-dir -c constraints.txt '.[tensorboard,adroit,report,export,tables]'

WORKDIR /work
ENTRYPOINT ["python", "-m", "adabc_lightning"]
CMD ["--help"]
