"""
Texts from outside (handlers, clients, libraries) as every door here can send and store them.

Python's `str` holds more than Unicode text: half of a surrogate pair, from JSON or from bytes that were
decoded leniently, cannot be encoded as UTF-8. gRPC, protobuf and PostgreSQL each raise an error for one,
at a place where nobody expects it, and a call may be left without an answer.
"""

from __future__ import annotations

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can encode the text: it holds no half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encodable(text: str) -> str:
    """The text as a plain `str`, with U+FFFD in place of what UTF-8 cannot encode."""
    if type(text) is not str:
        # Of a class of its own, which another process may not know.
        text = str.__str__(text)
    # Through UTF-16, so that two halves that belong together become their character.
    return text if is_encodable(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def said_by(thing: object) -> str:
    """What `str` says of an error, or of what stands for a text; raises nothing, whatever its class does."""
    try:
        return encodable(str(thing))
    except BaseException as error:  # noqa: BLE001 - code of the application
        return f"<{type(thing).__name__}: {type(error).__name__} while it was written>"


def without_nul(text: str) -> str:
    """The text with U+FFFD for NUL, which PostgreSQL cannot store."""
    return text.replace("\0", REPLACEMENT) if "\0" in text else text


def cut(text: str, longest: int) -> str:
    """The text, cut to so many characters if it is longer, which three dots then show."""
    return text if len(text) <= longest else text[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
