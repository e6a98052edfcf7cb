"""Several processes on this machine that train together, as a launcher starts them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

from shell import Answer, interruptible, text


def free_port():
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def launched(environment, size, rank, port):
    """The environment of a process, as PyTorch's launchers set it."""
    return environment | {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


class Together:
    """Commands that several processes carry out together, each in a folder."""

    def __init__(self, environment, folder, size=2):
        # PyTorch's store is reached through Python's sockets, too: only to this machine, see tests/conftest.py.
        self.environment, self.folder, self.size = environment, folder, size

    def start(self, *command, folders=None, **more):
        port = free_port()
        return [
            subprocess.Popen(
                [sys.executable, *text(command)],
                cwd=folders[rank] if folders else self.folder,
                env=launched(self.environment | more, self.size, rank, port),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=interruptible,
            )
            for rank in range(self.size)
        ]

    def __call__(self, *words, folders=None, **more):
        """`vitral` with these words in each process; the answer of each, by rank."""
        return finished(self.start("-m", "vitral", *words, folders=folders, **more), words)


def finished(processes, words=()):
    try:
        said = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
    return [Answer(text(words), process.returncode, *own) for process, own in zip(processes, said)]
