"""Starts `mountfs` by fork(2), with its modules loaded: in a tenth of the time.

A program of its own, with one thread, which reads from the socket that it is given as a
file descriptor. Each request comes with a socket for answers and with the new process's
standard input, output, error and the descriptor 3; the answers are its pid, and how it
ended. What is asked for runs like `python -P -m mountfs`, to its last line.
"""

import array
import contextlib
import gc
import json
import mimetypes
import os
import select
import socket
import struct
import sys

import boto3.session  # noqa: F401 - loaded here, for all
import botocore.httpsession  # noqa: F401

import mountfs.backends.local
import mountfs.backends.memory
import mountfs.backends.s3
import mountfs.mount  # noqa: F401
from mountfs import cli

NUMBER = struct.Struct("i")
REQUEST_MAX = 1 << 17
DESCRIPTORS = 5
"""The socket for answers, standard input, output and error, and one more."""
FIRST_FREE = 4


class ForkServer:
    """Forks at each request; tells how each child ended."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._children: dict[int, tuple[int, int]] = {}
        """By the descriptor of a process: its pid, and the socket for answers."""

    def run(self) -> list[str] | None:
        """Serve; return in each child with its arguments, and at the end with None."""
        while True:
            ready, _, _ = select.select([self._requests, *self._children], [], [])
            for descriptor in ready:
                if descriptor in self._children:
                    self._tell_end(descriptor)
                    continue
                letter, descriptors = _receive(self._requests)
                if not letter:
                    return None
                arguments = self._fork(letter, descriptors)
                if arguments is not None:
                    return arguments

    def _fork(self, letter: bytes, descriptors: list[int]) -> list[str] | None:
        pid = os.fork()
        if pid == 0:
            return _become(json.loads(letter), descriptors[1:])
        answers, *others = descriptors
        for each in others:
            os.close(each)
        os.write(answers, NUMBER.pack(pid))
        self._children[os.pidfd_open(pid)] = (pid, answers)
        return None

    def _tell_end(self, descriptor: int) -> None:
        pid, answers = self._children.pop(descriptor)
        os.close(descriptor)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it
            os.write(answers, NUMBER.pack(code))
        os.close(answers)


def _receive(requests: int) -> tuple[bytes, list[int]]:
    """Return a request and its descriptors; nothing at the end."""
    with socket.socket(fileno=os.dup(requests)) as duplicate:
        found = array.array("i")
        space = socket.CMSG_SPACE(DESCRIPTORS * found.itemsize)
        letter, ancillary, _, _ = duplicate.recvmsg(REQUEST_MAX, space)
        for _, _, data in ancillary:
            found.frombytes(data)
        return letter, list(found)


def _become(request: dict[str, object], descriptors: list[int]) -> list[str]:
    """Make this process what was asked for; return its arguments."""
    high = [os.dup2(each, 1000 + number) for number, each in enumerate(descriptors)]
    for number, each in enumerate(high):
        os.dup2(each, number)
    os.closerange(FIRST_FREE, 1000 + len(high))
    environment, arguments = request["environment"], request["arguments"]
    assert isinstance(environment, dict)
    assert isinstance(arguments, list)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(str(request["directory"]))
    return arguments


def main() -> int:
    """Serve, or be what was asked for."""
    mimetypes.init()  # S3 asks it at the first file
    gc.freeze()  # what is loaded by now stays
    arguments = ForkServer(int(sys.argv[1])).run()
    if arguments is None:
        return 0
    gc.unfreeze()
    sys.argv = ["mountfs", *arguments]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
