"""Zstandard files as a stream of bytes. Imported only when such a file is read."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

import zstandard

_CHUNK_BYTES = 1 << 18


def open_zst(path: str) -> BinaryIO:
    """Open a .zst file of one or several frames for reading what it holds.

    zstandard's own reader ends in silence when a frame is cut off; this one raises EOFError.
    """
    return cast(BinaryIO, io.BufferedReader(_Frames(open(path, "rb")), buffer_size=_CHUNK_BYTES))


class _Frames(io.RawIOBase):
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame = self._decompressor.decompressobj()
        self._is_inside_frame = False
        self._packed = b""
        self._unpacked = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._unpacked:
            if not self._unpack():
                return 0
        size = min(len(buffer), len(self._unpacked))
        buffer[:size] = self._unpacked[:size]
        self._unpacked = self._unpacked[size:]
        return size

    def _unpack(self) -> bool:
        """Fill ``_unpacked`` with the next piece; False at the end of the file."""
        packed = self._packed or self._file.read(_CHUNK_BYTES)
        self._packed = b""
        if not packed:
            if self._is_inside_frame:
                raise EOFError("the last zstd frame has no end")
            return False
        try:
            self._unpacked = memoryview(self._frame.decompress(packed))
        except zstandard.ZstdError as error:
            raise OSError(f"not an intact zstd file ({error})") from error
        self._is_inside_frame = not self._frame.eof
        if self._frame.eof:
            self._packed = self._frame.unused_data
            self._frame = self._decompressor.decompressobj()
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
