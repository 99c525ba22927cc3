"""Pictures for cameras."""

from __future__ import annotations

import base64
from typing import Final

SMALL: Final = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI////////////////////////////////////////"
    "////////////2wBDAVVaWnhpeOuCguv/////////////////////////////////////////////////////////////////////////wAAR"
    "CAAIAAgDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAP/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFQEBAQAAAAAAAAAAAAAA"
    "AAAAAgT/xAAUEQEAAAAAAAAAAAAAAAAAAAAA/9oADAMBAAIRAxEAPwCQAKH/2Q=="
)
"""A JPEG of 8 times 8 red pixels, 286 octets."""

LARGE: Final = SMALL + bytes(300 * 1024)
"""The same with what a decoder passes over: too large to go within an alert."""
