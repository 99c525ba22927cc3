"""The files of a trace: FILE for people, FILE.vcd for a viewer of signals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from plugin import __version__
from plugin.build import Tap
from plugin.w5100.trace import Trace, TracingBus

SIGNALS_SUFFIX = ".vcd"


@contextmanager
def tracing(path: Path, *, data: bool) -> Iterator[Tap]:
    """Give what is put before the bus, so that it is traced to ``path`` and ``path``.vcd.

    ``data``: the chip's memory is written in full, with all mails and with passwords where there is no TLS; only
    the owner may read the files, therefore. Raises OSError for a file that cannot be written.
    """
    with ExitStack() as files:
        text = _created(path, files)
        signals = _created(path.with_name(path.name + SIGNALS_SUFFIX), files)
        title = f"Hardwire {__version__}, SPI, begun at {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        trace = Trace(text, signals, title=title, data=data)
        yield lambda bus: TracingBus(bus, trace)


def _created(path: Path, files: ExitStack) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    file = os.fdopen(descriptor, "wb")
    files.callback(_closed, file)
    return file


def _closed(file: BinaryIO) -> None:
    with suppress(OSError):  # what a full disk does not take has been told already
        file.close()
