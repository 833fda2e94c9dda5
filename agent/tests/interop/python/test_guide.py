"""The guide to remote agents in Python, done word for word: its commands, its program, and what it says they print."""

import os
import pathlib
import queue
import re
import subprocess
import sys
import threading

import pytest
from agent import PATIENCE
from wire import Client, channel

REPOSITORY = pathlib.Path(__file__).parents[4]
GUIDE = (REPOSITORY / "agent/guides/remote-agent-python.md").read_text()
BLOCKS = re.findall(r"^```([^\n]*)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
COMMANDS = [text for kind, text in BLOCKS if kind == "sh"]
SHOWN = [text for kind, text in BLOCKS if kind == "text elsewhere"]


def block_with(what):
    """The one block of commands that has this in it."""
    (found,) = [text for text in COMMANDS if what in text]
    return found


class Program:
    """The guide's program, run by the guide's command."""

    def __init__(self, place, agent):
        command = block_with("remote_agent.py").strip()
        command = command.replace("localhost:5001", agent.address)
        command = command.replace("~/.local/state/configstream", str(agent.run_dir))
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec env {command}"],
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out, self.err = queue.SimpleQueue(), queue.SimpleQueue()
        for pipe, lines in [(self.process.stdout, self.out), (self.process.stderr, self.err)]:
            threading.Thread(target=lambda p, q: [q.put(line) for line in p], args=(pipe, lines), daemon=True).start()

    def line(self):
        return self.out.get(timeout=PATIENCE)

    def until(self, lines, what):
        while what not in (line := lines.get(timeout=PATIENCE)):
            pass
        return line


@pytest.fixture
def place(tmp_path):
    """A clone with an environment, where the guide's set-up has been done, but for installing once more."""
    (tmp_path / "proto").symlink_to(REPOSITORY / "proto")
    (tmp_path / "agent-env").symlink_to(sys.prefix)
    make, install, *rest = block_with("pip install").splitlines()
    assert (make, "agent-env/bin/pip install") == ("python3 -m venv agent-env", install[:25])
    subprocess.run(["bash", "-ec", "\n".join(rest)], cwd=tmp_path, check=True)
    (program,) = [text for kind, text in BLOCKS if kind == "python"]
    (tmp_path / "remote_agent.py").write_text(program)
    # The file, as the guide writes it; the agent of the test is started by the test.
    write = block_with("my.yaml").rpartition("END\n")
    subprocess.run(["bash", "-ec", write[0] + write[1]], cwd=tmp_path, check=True)
    return tmp_path


@pytest.fixture
def follow(place):
    started = []

    def follow(agent):
        started.append(Program(place, agent))
        return started[-1]

    yield follow
    for program in started:
        program.process.kill()
        program.process.wait()


def test_the_guide_installs_what_is_tested():
    tested = (REPOSITORY / "agent/tests/interop/python/requirements.txt").read_text().split()
    install = block_with("pip install").splitlines()[1]
    packages = [word for word in install.split() if "==" in word]
    assert len(packages) == 3 and set(packages) <= set(tested)


def test_the_program_prints_what_the_guide_shows(start, place, follow):
    agent = start("--config", place / "my.yaml")
    program = follow(agent)
    first, update = SHOWN
    for shown in first.splitlines():
        pattern = re.escape(shown).replace("…", r"\d+")
        assert re.fullmatch(pattern, program.line().rstrip("\n"))
    with Client(channel(agent)) as client:
        client.set("shop.currency", "CHF")
    assert program.line() == update


def test_the_program_comes_back_after_a_restart(start, place, follow):
    agent = start("--config", place / "my.yaml")
    program = follow(agent)
    program.until(program.out, "currency")
    agent.kill()
    program.until(program.err, "UNAVAILABLE")
    again = start("--config", place / "my.yaml", listen=agent.address)
    program.until(program.out, "snapshot")
    program.until(program.out, "currency")
    with Client(channel(again)) as client:
        client.set("shop.currency", "CHF")
    assert "'CHF'" in program.line()


def test_the_program_reads_a_token_that_was_changed(start, place, follow):
    agent = start("--config", place / "my.yaml")
    program = follow(agent)
    program.until(program.out, "currency")
    agent.kill()
    (agent.run_dir / "auth_token").unlink()
    start("--config", place / "my.yaml", listen=agent.address)
    program.until(program.out, "snapshot")


def test_the_program_registers_again_when_its_session_is_lost(start, place, follow):
    agent = start("--config", place / "my.yaml")
    program = follow(agent)
    program.until(program.out, "currency")
    # A new agent knows nothing of the session, nor of the stream.
    agent.ask_to_stop()
    program.until(program.err, "UNAVAILABLE: the server is shutting down")
    agent.wait()
    again = start("--config", place / "my.yaml", listen=agent.address)
    program.until(program.out, "snapshot")
    with Client(channel(again)) as client:
        assert [found.display_name for found in client.agents()] == ["shop"]
