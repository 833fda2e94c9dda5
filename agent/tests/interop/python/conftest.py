import pytest
from agent import Agent
from wire import Client, channel

CONFIGURATION = """\
log_level: warn
interop:
  is_true: true
  is_false: false
  zero: 0
  negative: -42
  largest: 9007199254740992
  smallest: -9007199254740992
  fraction: 0.1
  tiny: 5.0e-324
  text: "héllo ✓"
  empty_text: ""
  number_as_text: "12"
  list: [1, "two", false, 4.5, [5], {six: 6}]
  empty_list: []
  map: {"a key": {"b.c": [{d: [true]}]}, "/": "x"}
  empty_map: {}
"""


@pytest.fixture(scope="session")
def agent(tmp_path_factory):
    """An agent for tests that leave no more behind than keys of their own."""
    root = tmp_path_factory.mktemp("agent")
    file = root / "interop.yaml"
    file.write_text(CONFIGURATION)
    with Agent(root, "--config", file) as agent:
        yield agent


@pytest.fixture
def client(agent):
    with Client(channel(agent)) as client:
        yield client


@pytest.fixture
def start(tmp_path):
    """Starts agents that end with the test."""
    started = []

    def start(*arguments, **options):
        started.append(Agent(tmp_path, *arguments, **options))
        return started[-1]

    yield start
    for agent in started:
        agent.kill()
