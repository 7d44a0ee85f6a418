"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from unip import log


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep measurements of tests out of the user's cache folder, and those found there out of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _show_messages() -> Iterator[None]:
    """Print messages and progress as the command line does, so that ``capsys`` and ``capfd`` see those of Python calls.

    Without it a call prints nothing; tests of that use processes of their own, or :func:`unip.log.hide` and
    :func:`unip.log.show`. It is of the whole session, as fixtures of modules and sessions print, too.
    """
    log.show()
    yield
    log.hide()
