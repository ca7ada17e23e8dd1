"""Other programs in environments of their own, with pinned versions: finds them, and makes them.

    python benchmarks/peers.py                 which are there
    python benchmarks/peers.py make [NAME ..]  makes those named, or all, one after the other

An environment is a folder `.venv-bench-NAME` beside the sources, which git ignores, and holds exactly the packages of
``environments/NAME.txt``. Nothing is left for pip to find out. On a machine without a GPU let pip find PyTorch's CPU
build first (pip's own settings `find-links` and `extra-index-url`), or gigabytes arrive that nothing uses.
What a program needs beyond its packages to start on a CPU stands in ``REPAIRS``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

TORCHAUDIO_STUB = '''\
"""Stands in for torchaudio, of which there is no build for this PyTorch. Texts need nothing of it."""


def load(*_, **__):
    raise RuntimeError("torchaudio is not installed")
'''


@dataclass(frozen=True)
class Peer:
    """One other program."""

    key: str
    """Names its environment and its list of packages."""
    shown: str
    packages: tuple[str, ...]
    """Whose versions a table names: the program first."""

    @property
    def folder(self) -> Path:
        return ROOT / f".venv-bench-{self.key}"

    @property
    def listed(self) -> Path:
        return HERE / "environments" / f"{self.key}.txt"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def problem(self) -> str | None:
        """Why it cannot take part; None where it can."""
        if not self.python.exists():
            return f"no environment; `python benchmarks/peers.py make {self.key}` makes it"
        if not self._stamp.exists() or self._stamp.read_text() != self.listed.read_text():
            return f"the environment is not the one listed; `python benchmarks/peers.py make {self.key}` makes it anew"
        return None

    @property
    def _stamp(self) -> Path:
        return self.folder / "made-from.txt"

    def make(self) -> None:
        """Make its environment anew; Python 3.11, for which the versions were chosen."""
        interpreter = shutil.which("python3.11") or sys.executable
        subprocess.run([interpreter, "-m", "venv", "--clear", self.folder], check=True)
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "-r", self.listed]
        subprocess.run([self.python, *install], check=True)
        self.finish()

    def finish(self) -> None:
        """The repairs, and the note of what the environment was made from."""
        packages = next((self.folder / "lib").glob("python3.*/site-packages"))
        for name, text in REPAIRS.get(self.key, {}).items():
            (packages / name).write_text(text)
        self._stamp.write_text(self.listed.read_text())


PEERS = {
    peer.key: peer
    for peer in (
        Peer("trl", "TRL", ("trl", "transformers", "peft", "datasets", "tokenizers", "torch")),
        Peer("llama-factory", "LLaMA-Factory", ("llamafactory", "transformers", "trl", "datasets", "torch")),
        Peer("axolotl", "axolotl", ("axolotl", "transformers", "trl", "datasets", "torch")),
        Peer("ms-swift", "ms-swift", ("ms-swift", "transformers", "trl", "datasets", "torch")),
    )
}

REPAIRS: dict[str, dict[str, str]] = {
    # imported whenever LLaMA-Factory starts, used for audio alone
    "llama-factory": {"torchaudio.py": TORCHAUDIO_STUB},
}
"""Peer -> file in its packages -> text."""


def main() -> None:
    """Show or make environments."""
    words = sys.argv[1:]
    if words[:1] == ["make"]:
        for key in words[1:] or list(PEERS):
            print(f"making {PEERS[key].folder.name}", flush=True)
            PEERS[key].make()
    elif words:
        sys.exit(__doc__)
    for peer in PEERS.values():
        print(f"{peer.key:<15}{peer.problem() or 'ready'}")


if __name__ == "__main__":
    main()
