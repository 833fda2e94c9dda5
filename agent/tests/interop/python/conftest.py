import pathlib

import pytest
from agent import Agent
from wire import Client, channel

CONFIGURATION = pathlib.Path(__file__).parent.parent / "interop.yaml"


@pytest.fixture(scope="session")
def agent(tmp_path_factory):
    """An agent for tests that leave no more behind than keys of their own."""
    with Agent(tmp_path_factory.mktemp("agent"), "--config", CONFIGURATION) as agent:
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
