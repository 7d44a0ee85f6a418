"""Ranks that learn at once when one of them ends, whether it refuses its input or dies while it trains.

A collective whose peer is gone may wait forever on a GPU, and a timeout of collectives that is short enough to notice
would also end runs in which one rank compiles or writes a checkpoint. So each rank holds a socket to rank 0, and the
system closes a socket together with its process.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator

from unip.documents import try_json
from unip.errors import UnipError

#: Collectives may wait this long, since what is gone is found out here: rank 0 may compile and save in the meantime.
COLLECTIVE_TIMEOUT = timedelta(hours=2)
#: A rank has these seconds to end by itself (say, to finish a checkpoint); torchrun kills it after 30.
GRACE_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 60.0  # seconds
#: Silence after which the system asks whether a host is still there, seconds between questions, and their number.
KEEPALIVE = (10, 5, 4)
_DONE = {"done": True}


@contextmanager
def together(accelerator: Accelerator) -> Iterator[None]:
    """While the body runs on all ranks, end it on all when one fails or disappears.

    All then raise a UnipError, or exit with its code where they are stuck within a collective. Rank 0 has the message
    of whichever failed; the other ranks' errors are ``quiet``, unless rank 0 is the one that is gone.

    Raises:
        UnipError: Another rank failed or is gone.
    """
    if accelerator.num_processes == 1:
        yield
        return
    links = _Links(accelerator)
    try:
        yield
    except UnipError as error:
        _outlive_sigterm()
        error.quiet = links.tell(error)
        raise
    except (RuntimeError, KeyboardInterrupt) as problem:  # of a collective whose peer is gone, or torchrun's SIGTERM
        _outlive_sigterm()
        verdict = links.verdict if isinstance(problem, KeyboardInterrupt) else links.ask()
        if verdict is None:
            raise
        raise verdict from problem
    else:
        links.send(_DONE)
    finally:
        links.close()


def _outlive_sigterm() -> None:
    """Ignore SIGTERM from here on: torchrun sends it to the ranks that are left, which are ending and say why."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # also while the interpreter goes down


class _Links:
    """Sockets of rank 0 to all others, or of another rank to rank 0, and a thread that listens to them."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.rank, self.ranks = accelerator.process_index, accelerator.num_processes
        self.local_rank = accelerator.local_process_index
        self.ending, self.judged = threading.Event(), threading.Event()
        self.verdict: UnipError | None = None
        try:
            self.peers = self._connect(accelerator.device)
        except OSError as error:
            raise UnipError(
                f"rank {self.rank} of {self.ranks} cannot talk to {'rank 0' if self.rank else 'the others'}: {error}",
                "The machines must reach the first one on any port.",
            ) from error
        for peer in self.peers.values():
            _keep_alive(peer)
        if hasattr(os, "register_at_fork"):  # a loader process must not hold a dead rank's socket open
            os.register_at_fork(after_in_child=self._close_sockets)
        self.listener = threading.Thread(target=self._listen, name="unip-ranks", daemon=True)
        self.listener.start()

    def _connect(self, device: torch.device) -> dict[int, socket.socket]:
        alone = os.environ.get("LOCAL_WORLD_SIZE") == str(self.ranks)  # all on one machine: nothing from outside
        dual = not alone and socket.has_dualstack_ipv6()
        where = torch.zeros(2, dtype=torch.int64, device=device)  # port, and a secret that keeps strangers out
        if self.rank:
            torch.distributed.broadcast(where, 0)
            port, secret = where.tolist()
            host = "127.0.0.1" if alone else os.environ["MASTER_ADDR"]  # of rank 0, as torch itself finds it
            peer = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_SECONDS)
            peer.sendall(_line({"rank": self.rank, "secret": secret}))
            return {0: peer}
        family = socket.AF_INET6 if dual else socket.AF_INET
        address = ("127.0.0.1" if alone else "", 0)
        with socket.create_server(address, family=family, dualstack_ipv6=dual, backlog=self.ranks) as server:
            server.settimeout(CONNECT_TIMEOUT_SECONDS)
            secret = secrets.randbits(62)
            torch.distributed.broadcast(where.copy_(torch.tensor([server.getsockname()[1], secret])), 0)
            peers: dict[int, socket.socket] = {}
            while len(peers) < self.ranks - 1:
                peer, _ = server.accept()
                peer.settimeout(CONNECT_TIMEOUT_SECONDS)
                message = _read(peer) or {}
                if message.get("secret") == secret:
                    peers[int(message["rank"])] = peer
                else:
                    peer.close()
            return peers

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for rank, peer in self.peers.items():
                selector.register(peer, selectors.EVENT_READ, rank)
            while selector.get_map():
                for key, _ in selector.select():
                    message = _read(self.peers[key.data])
                    if self.ending.is_set():
                        return
                    if message != _DONE:
                        self._judge(message or self._is_gone(key.data))
                        return
                    selector.unregister(key.fileobj)
                    self.peers.pop(key.data).close()  # it is not told what others end for

    def _is_gone(self, rank: int) -> dict[str, Any]:
        what = f"rank {rank} of {self.ranks} is gone: its process or its machine ended without a message"
        fix = "See its own messages; memory may have run out. The same command continues from the newest checkpoint."
        # without rank 0, one rank a machine speaks: the first that is left
        on_its_machine = self.rank == self.local_rank
        return {"what": what, "fix": fix, "quiet": rank == 0 and self.local_rank != (1 if on_its_machine else 0)}

    def _judge(self, message: dict[str, Any]) -> None:
        """Pass the message on; leave if this rank does not by itself, being stuck in a collective."""
        self.verdict = UnipError(str(message["what"]), str(message["fix"]))
        self.verdict.quiet = bool(message.get("quiet"))
        self.send({**message, "quiet": True})
        self.judged.set()
        if not self.ending.wait(GRACE_SECONDS):
            if not self.verdict.quiet:
                print(f"error: {self.verdict}", file=sys.stderr, flush=True)
            os._exit(UnipError.exit_code)

    def ask(self) -> UnipError | None:
        """Return why the others end, or None if they do not within seconds."""
        if self.peers:
            self.judged.wait(GRACE_SECONDS)
        self.ending.set()
        return self.verdict

    def tell(self, error: UnipError) -> bool:
        """Tell the others why this rank ends; return whether rank 0 says it, or has said its own."""
        told = self.send({"what": error.what, "fix": error.fix, "quiet": self.rank == 0})
        if not told:  # one of them is ending too; its reason may be on the way
            self.judged.wait(GRACE_SECONDS)
        self.ending.set()
        return self.rank != 0 and (told or (self.verdict is not None and self.verdict.quiet))

    def send(self, message: dict[str, Any]) -> bool:
        """Send to all peers; return whether all are there to take it."""
        taken = True
        for peer in list(self.peers.values()):
            try:
                peer.sendall(_line(message))
            except OSError:
                taken = False
        return taken

    def close(self) -> None:
        """Stop listening."""
        self.ending.set()
        for peer in list(self.peers.values()):
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)  # wakes the listener
        self.listener.join()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for peer in self.peers.values():
            peer.close()


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _read(peer: socket.socket) -> dict[str, Any] | None:
    """Read one line of JSON; None at the connection's end or for anything else."""
    data = b""
    try:
        while not data.endswith(b"\n"):
            piece = peer.recv(65536)
            if not piece:
                return None
            data += piece
    except OSError:
        return None
    return try_json(data, dict[str, Any])


def _keep_alive(peer: socket.socket) -> None:
    """Let the system find out when the other side's machine is gone, which closes nothing."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in zip(("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"), KEEPALIVE, strict=True):
        if hasattr(socket, name):  # as on Linux
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
