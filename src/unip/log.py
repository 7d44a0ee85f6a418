"""What unip tells people: messages of the logger ``unip``, shown on a terminal only where somebody asked for it.

Every module logs to a logger of its own name, so ``logging.basicConfig`` and handlers of the logger ``unip`` work as
for any library, and a notebook in which nothing is set up stays quiet. The command line calls :func:`show`.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.table import Table

ROOT = "unip"
TEXT_WIDTH = 1000  # characters; wide enough that no cell of a table is cut or wrapped


class TableMessage:
    """A table as a log message: the terminal's handler prints it fitted to the terminal, other handlers its text."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __str__(self) -> str:
        """Return the whole table as text of several lines."""
        text = io.StringIO()
        plain = Console(file=text, width=TEXT_WIDTH, color_system=None, force_jupyter=False, emoji=False)
        plain.print(self.table, highlight=False, markup=False)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


class CannotPrint(OSError):
    """A stream of the terminal cannot be written: its disk is full, or its reader is gone."""


class TerminalConsole(Console):
    """A console that raises where it cannot print; rich would end the process of which a reader is gone."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does.

        Raises:
            CannotPrint: The stream cannot be written.
        """
        try:
            super().print(*objects, **options)
        except OSError as error:
            raise CannotPrint(error.errno, error.strerror) from error

    def on_broken_pipe(self) -> None:
        """Raise what writing raised.

        Raises:
            BrokenPipeError: Always.
        """
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class TerminalHandler(logging.Handler):
    """Prints messages and tables on stdout as they are, without level, time or name.

    Messages that cannot be written are left out, and the work goes on: a full disk below the output of a long training,
    or a reader such as ``head`` that is gone, must not end it. :func:`flush_streams` says whether there were any.
    """

    def __init__(self) -> None:
        super().__init__()
        logger = logging.getLogger(ROOT)
        self.before = (logger.level, logger.propagate)
        self.lost: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message of a record."""
        if is_other_rank() or sys.stdout is None or sys.stdout.closed:
            return
        message: object = record.msg
        what = message.table if isinstance(message, TableMessage) else self.format(record)
        # made again each time, as sys.stdout may have been replaced and the terminal resized
        console = TerminalConsole(soft_wrap=not isinstance(message, TableMessage), emoji=False)
        try:
            try:
                console.print(what, highlight=False, markup=False)
            except UnicodeEncodeError:  # stdout has no such characters
                text = self.format(record).encode(console.encoding, "backslashreplace")
                print(text.decode(console.encoding), flush=True)
        except OSError as error:
            self.lost = self.lost or error


def show() -> None:
    """Show messages on stdout and progress on stderr, as the command line does: ``unip.log.show()``.

    Without this call a notebook or script sees neither, unless it has set up :mod:`logging`, which gives the messages.
    They no longer go to handlers of the root logger too, so that no line comes twice.
    """
    if is_shown():
        return
    handler, logger = TerminalHandler(), logging.getLogger(ROOT)
    logger.addHandler(handler)
    logger.propagate = False
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)


def hide() -> None:
    """Undo :func:`show`."""
    logger = logging.getLogger(ROOT)
    for handler in _terminal_handlers():
        logger.removeHandler(handler)
        level, logger.propagate = handler.before
        logger.setLevel(level)


@contextmanager
def others_quiet(*names: str) -> Iterator[None]:
    """Keep what libraries say to those who write programs from those who use them.

    Args:
        names: Loggers of which errors alone are let through. What goes to the root logger, to which Python would add a
            handler for good, is dropped where nobody listens.
    """
    root, handler = logging.getLogger(), logging.NullHandler()
    loud = [logging.getLogger(name) for name in names]
    levels = [each.level for each in loud]
    root.addHandler(handler)
    try:
        for each in loud:
            each.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(handler)
        for each, level in zip(loud, levels, strict=True):
            each.setLevel(level)


def is_shown() -> bool:
    """Return whether :func:`show` was called: whether messages go to stdout and progress to stderr."""
    return bool(_terminal_handlers())


def is_other_rank() -> bool:
    """Return whether this process is a rank other than the first of a distributed run; those stay quiet."""
    torch = sys.modules.get("torch")  # not imported for this alone
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return False
    return bool(torch.distributed.get_rank() > 0)


def flush_streams() -> OSError | None:
    """Flush stdout and stderr for the last time, before the process ends.

    A stream that cannot be written becomes the null device, or Python would complain of it at its end.

    Returns:
        Why lines are missing on stdout; None if all are there.
    """
    lost = None
    for handler in _terminal_handlers():
        lost, handler.lost = lost or handler.lost, None
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError as error:
            lost = lost or (error if stream is sys.stdout else None)
            with open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), stream.fileno())
    return lost


def _terminal_handlers() -> list[TerminalHandler]:
    return [handler for handler in logging.getLogger(ROOT).handlers if isinstance(handler, TerminalHandler)]
