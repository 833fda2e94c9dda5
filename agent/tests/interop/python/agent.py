"""Runs the real agent."""

import os
import pathlib
import queue
import signal
import subprocess
import threading
import time

PROGRAM = os.environ["CONFIGSTREAM"]

# How long anything may take on a machine that is busy, in seconds.
PATIENCE = 60


class Agent:
    """A running `configstream run`, on ports of its own. Leaving its `with` block kills it."""

    def __init__(self, run_dir, *arguments, listen="127.0.0.1:0"):
        self.run_dir = pathlib.Path(run_dir)
        self.socket = self.run_dir / "agent.sock"
        command = [PROGRAM, "run", "--run-dir", self.run_dir, "--http", "127.0.0.1:0"]
        command += ["--listen", listen, "--listen", f"unix:{self.socket}", *arguments]
        ours = ("DD_", "CONFIGSTREAM_", "RUST_")
        environment = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.said, self._lines = [], queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.until_said("in a third")
        self.address = (self.run_dir / "address").read_text().strip()
        pem = (self.run_dir / "ipc_cert.pem").read_bytes()
        key_begins = pem.index(b"-----BEGIN EC PRIVATE KEY-----")
        self.certificate, self.key = pem[:key_begins], pem[key_begins:]
        self.token = (self.run_dir / "auth_token").read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def until_said(self, what):
        deadline = time.monotonic() + PATIENCE
        while True:
            line = self._lines.get(timeout=max(0, deadline - time.monotonic()))
            assert line is not None, "the agent has ended:\n" + "".join(self.said)
            self.said.append(line)
            if what in line:
                return

    def ask_to_stop(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        """Waits for a clean end."""
        assert self.process.wait(PATIENCE) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def _listen(self):
        with self.process.stderr as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)


def until(condition, what):
    """Waits until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)
    return answer
