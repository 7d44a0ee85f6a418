"""The one error type that reaches users: what is wrong, where, and what to do about it."""

from __future__ import annotations


class UnipError(Exception):
    """A problem that the user can fix; the command line prints it without a traceback and exits with 2.

    Args:
        what: What is wrong, with the place (file, key, layer, ...) in it.
        fix: What to do about it, one sentence; may be empty when ``what`` already says it.
    """

    exit_code = 2
    quiet = False  # of several ranks that end for one reason, one says it

    def __init__(self, what: str, fix: str = "") -> None:
        what = what.encode("utf-8", "backslashreplace").decode()  # a file's name may hold bytes that no stream takes
        self.what = what
        self.fix = fix
        super().__init__(f"{what}\n{fix}" if fix else what)


class Interrupted(UnipError):
    """Work stopped by Ctrl-C or SIGTERM after everything done so far was saved."""

    exit_code = 130
