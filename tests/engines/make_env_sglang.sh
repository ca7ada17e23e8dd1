#!/usr/bin/env bash
# Makes .venv-sglang: SGLang 0.5.23 for a machine without GPU, on top of .venv, whose torch it uses (about 1 GB).
#     make install && tests/engines/make_env_sglang.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

base=.venv/bin/python
"$base" -c 'import sys; assert sys.version_info >= (3, 11), "SGLang needs Python 3.11 or later in .venv"'
"$base" -m venv --clear .venv-sglang
site=$(.venv-sglang/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
"$base" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' > "$site/base.pth"
echo "$PWD/tests/engines/sglang_cpu" >> "$site/base.pth" # sitecustomize.py and one operation, see there
.venv-sglang/bin/python -m pip install --quiet --no-deps -r tests/engines/requirements-sglang.txt
.venv-sglang/bin/python -c 'import sglang, torch; print("SGLang", sglang.__version__, "with torch", torch.__version__)'
