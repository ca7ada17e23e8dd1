"""A GGUF file beside a finished model, made by llama.cpp's own converter where that is installed.

llama.cpp reads nothing else, and Ollama takes it where it knows no safetensors of the family. The converter is a script
of a llama.cpp checkout (https://github.com/ggml-org/llama.cpp, convert_hf_to_gguf.py); nothing of it is here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sft.errors import ExportError

CONVERTER = "convert_hf_to_gguf.py"
VARIABLE = "LLAMA_CPP_DIR"
MAGIC = b"GGUF"
SHOWN = 600
"""Characters of what a failed converter said last."""


def find_converter() -> Path:
    """The script in the folder that LLAMA_CPP_DIR names, or on the PATH.

    Raises:
        ExportError: it is in neither.
    """
    named = os.environ.get(VARIABLE)
    folders = [named] if named else os.environ.get("PATH", "").split(os.pathsep)
    for folder in folders:
        path = Path(folder).expanduser() / CONVERTER
        if folder and path.is_file():
            return path
    where = f"{VARIABLE} = {named!r} holds none" if named else f"{VARIABLE} is not set, and none is on the PATH"
    raise ExportError(
        f"a GGUF file is made by llama.cpp's {CONVERTER}, and {where}. Get llama.cpp "
        f"(git clone https://github.com/ggml-org/llama.cpp) and set {VARIABLE} to its folder."
    )


def write_gguf(folder: Path, kind: str, converter: Path) -> Path:
    """Write ``model-KIND.gguf`` into a finished model folder, and return its path.

    Raises:
        ExportError: the converter does not know the model, or what it wrote is no GGUF file. The folder stays usable.
    """
    path = folder / f"model-{kind}.gguf"
    command = [sys.executable, str(converter), str(folder), "--outfile", str(path), "--outtype", kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and begins_as_gguf(path):
        return path
    path.unlink(missing_ok=True)
    said = " ".join((done.stderr or done.stdout).split())[-SHOWN:]
    raise ExportError(
        f"{converter} made no GGUF file of {str(folder)!r} (exit code {done.returncode}): {said} The model in the "
        "folder is complete. llama.cpp may not know its architecture, or want packages (its requirements folder)."
    )


def begins_as_gguf(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
