"""HTTP/2 frames as bytes (RFC 9113), as much of them as a client needs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum, IntFlag

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9
LARGEST_WINDOW = 2**31 - 1
INITIAL_WINDOW = 65_535
INITIAL_FRAME = 16_384


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntFlag):
    """Flags; ACK shares its bit with END_STREAM."""

    END_STREAM = 1
    ACK = 1
    END_HEADERS = 4
    PADDED = 8
    PRIORITY = 32


class Setting(IntEnum):
    """Identifiers of settings."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5


_HEADER = struct.Struct(">HBBBI")
_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return _HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, _NUMBER.pack(increment))


def read_settings(payload: bytes) -> dict[int, int]:
    """What the other side asks for."""
    return dict(_SETTING.iter_unpack(payload))


def read_number(payload: bytes) -> int:
    """The 31 bits with which several frames begin."""
    return int(_NUMBER.unpack_from(payload)[0]) & LARGEST_WINDOW


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame without its padding and priority."""
    start, end = 0, len(payload)
    if flags & Flag.PADDED:
        start, end = 1, end - payload[0]
    if flags & Flag.PRIORITY:
        start += 5
    return payload[start:end]


def literal_block(headers: Sequence[tuple[str, str]]) -> bytes:
    """A header block that neither reads nor changes any table: every field literal, never indexed."""
    fields = []
    for name, value in headers:
        fields.append(b"\x10" + _text(name.lower().encode()) + _text(value.encode()))
    return b"".join(fields)


def _text(text: bytes) -> bytes:
    """Without Huffman coding; the length as an integer with a prefix of seven bits."""
    length = len(text)
    if length < 127:
        return bytes([length]) + text
    octets, rest = [127], length - 127
    while rest >= 128:
        octets.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*octets, rest]) + text
