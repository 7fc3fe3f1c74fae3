"""Frames between the harness and its client process: bytes behind an eight-byte length, over one socket pair.

A round goes out as one frame of JSON settings and one frame per request (already HTTP, so that the
client never decodes a prompt), and comes back as one frame of JSON.
"""

from __future__ import annotations

import struct

LENGTH = struct.Struct("!Q")


def frame(content: bytes) -> bytes:
    """One frame, ready to be sent."""
    return LENGTH.pack(len(content)) + content


class Deframer:
    """Cuts a byte stream back into frames, whatever the reads were."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add what one read brought; return the frames that are complete now."""
        self._buffer += data
        frames, position = [], 0
        while len(self._buffer) - position >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, position)
            end = position + LENGTH.size + length
            if end > len(self._buffer):
                break
            frames.append(bytes(self._buffer[position + LENGTH.size : end]))
            position = end
        del self._buffer[:position]
        return frames
