"""Image files of a data set: their bytes, and what is wrong with those that cannot be used."""

from __future__ import annotations

from pathlib import Path

_PNG = b"\x89PNG\r\n\x1a\n"
_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])  # TEM, RST0 to RST7, SOI


class BadImage(Exception):  # noqa: N818 - not an error of the run: the caller counts and reports it
    """A file cannot be used; the text says why."""


def read_image_file(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        BadImage: the file is missing, empty, cut short, or not a JPEG or PNG image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from error
    if why := _damage(data):
        raise BadImage(why)
    return data


def _damage(data: bytes) -> str | None:
    """Say what is wrong with an image file, as far as its outer structure shows.

    OpenCV decodes a JPEG that was cut short without a word and fills the rest with grey, so the end marker is looked
    for here. It cannot occur inside of entropy-coded data, and a thumbnail's own lies before the start of scan.
    """
    if not data:
        return "is empty"
    if data.startswith(_PNG):
        return None if b"IEND" in data[-64:] else "is a PNG file that was cut short"
    if not data.startswith(b"\xff\xd8"):
        return "is not a JPEG or PNG image"
    scan = _start_of_scan(data)
    if scan is None:
        return "is a JPEG file without image data"
    return None if data.rfind(b"\xff\xd9", scan) >= 0 else "is a JPEG file that was cut short"


def _start_of_scan(data: bytes) -> int | None:
    """Return the offset of the first start-of-scan marker of a JPEG file, following the lengths of its segments."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte before a marker
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker == 0xDA:
            return at
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
