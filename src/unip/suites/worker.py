"""A worker process: runs tasks one after the other, so that starting Python and the device is paid for once.

Tasks come as lines on stdin, outcomes go as lines to what stdout was; whatever a task prints goes to its own log. When
stdin ends, nobody waits for an outcome any more: a task that runs saves its state. It has seconds for that if the
parent was killed, so that the next call finds the folder free.
"""

from __future__ import annotations

import gc
import io
import os
import queue
import signal
import sys
import threading
import time
from typing import NoReturn

from unip.limits import set_max_pixels

LOOK_EVERY_SECONDS = 0.5
SAVE_SECONDS = 6.0  # to save a state, after the parent was killed


def main() -> None:
    """Serve until stdin ends."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # not sys.stdin: the loader processes that a task forks close it, and would wait for the thread that reads it
    questions, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    busy = threading.Event()  # a task has come, and is not answered yet
    threading.Thread(target=_read, args=(questions, lines, busy, os.getppid()), daemon=True).start()

    # here: they import torch, for seconds in which the parent may be killed
    from unip.documents import parse_json
    from unip.log import show
    from unip.suites.attempts import attempt, clear_traces
    from unip.suites.tasks import TASK

    show()  # the parent leads stdout and stderr of each task to its log
    clear_traces()  # imports the compiler
    gc.freeze()  # modules stay; else the collections between tasks would search all of them
    while line := lines.get():
        outcome = attempt(TASK.validate_python(parse_json(line, "the suite", file_names=True)))
        busy.clear()
        try:
            os.write(answers, outcome.model_dump_json().encode() + b"\n")
        except BrokenPipeError:  # nobody waits for it
            return
        if outcome.state == "interrupted":
            return


def leave() -> NoReturn:
    """End this process without taking the interpreter down, which takes nearly two seconds of a core with torch in it.

    Sixteen workers that end together would need half a minute of two cores. All that matters is written: outcomes, logs
    and states. Loader processes are ended.
    """
    from unip.runtime.workers import end_all_loading

    end_all_loading()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _read(questions: io.FileIO, lines: queue.SimpleQueue[bytes], busy: threading.Event, parent: int) -> None:
    for line in iter(questions.readline, b""):
        busy.set()
        lines.put(line)
    lines.put(b"")
    if busy.is_set():  # training saves a checkpoint and stops
        os.kill(os.getpid(), signal.SIGTERM)
    while os.getppid() == parent:  # it waits, or ends this process when it is tired of that
        time.sleep(LOOK_EVERY_SECONDS)
    if busy.is_set():
        time.sleep(SAVE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to hear
    set_max_pixels(int(sys.argv[1]))
    main()
    leave()
