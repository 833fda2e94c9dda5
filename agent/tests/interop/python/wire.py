"""What a stock client does: plain grpcio, and code generated from our .proto files."""

import grpc
from configstream.admin.v1 import admin_pb2, admin_pb2_grpc
from datadog.api.v1 import api_pb2_grpc
from datadog.model.v1 import model_pb2
from datadog.remoteagent.v1 import remoteagent_pb2, remoteagent_pb2_grpc
from google.protobuf import json_format, struct_pb2

from agent import PATIENCE, until

# The certificate is its own authority, and made out to this name.
NAME = ("grpc.ssl_target_name_override", "localhost")

REGISTER_FIRST = "remote agent must register with RAR before subscribing to config stream"


def tls(trusted, shown=None):
    """Trusts the certificate of one agent, and shows that of one, or none."""
    if shown is None:
        return grpc.ssl_channel_credentials(trusted.certificate)
    return grpc.ssl_channel_credentials(trusted.certificate, shown.key, shown.certificate)


def credentials(agent):
    token = grpc.access_token_call_credentials(agent.token)
    return grpc.composite_channel_credentials(tls(agent, agent), token)


def channel(agent, *options, address=None):
    return grpc.secure_channel(address or agent.address, credentials(agent), [NAME, *options])


def without_token(agent):
    return grpc.secure_channel(agent.address, tls(agent, agent), [NAME])


class Client:
    """Every service of an agent over one channel."""

    def __init__(self, channel):
        self.channel = channel
        self.secure = api_pb2_grpc.AgentSecureStub(channel)
        self.open = api_pb2_grpc.AgentStub(channel)
        self.remote = remoteagent_pb2_grpc.RemoteAgentStub(channel)
        self.admin = admin_pb2_grpc.ConfigAdminStub(channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def register(self, name="interop", **fields):
        request = remoteagent_pb2.RegisterRemoteAgentRequest(display_name=name, **fields)
        return self.secure.RegisterRemoteAgent(request, timeout=PATIENCE)

    def refresh(self, session_id):
        request = remoteagent_pb2.RefreshRemoteAgentRequest(session_id=session_id)
        return self.secure.RefreshRemoteAgent(request, timeout=PATIENCE)

    def stream(self, session_id=None):
        """A stream of a session, or of a new one."""
        session_id = session_id or self.register().session_id
        return Stream(self.events(("session_id", session_id)))

    def events(self, *metadata):
        request = model_pb2.ConfigStreamRequest(name="interop")
        return self.secure.StreamConfigEvents(request, metadata=metadata, timeout=PATIENCE)

    def set(self, key, value, source=""):
        request = admin_pb2.SetRequest(key=key, value=to_value(value), source=source)
        return self.admin.Set(request, timeout=PATIENCE)

    def unset(self, key, source=""):
        request = admin_pb2.UnsetRequest(key=key, source=source)
        return self.admin.Unset(request, timeout=PATIENCE)

    def agents(self):
        return self.admin.Agents(admin_pb2.AgentsRequest(), timeout=PATIENCE).agents

    def streams(self, session_id):
        """What the agent knows of the streams of a session."""
        return [s for agent in self.agents() if agent.session_id == session_id for s in agent.streams]

    def status(self):
        return self.admin.Status(admin_pb2.StatusRequest(), timeout=PATIENCE)

    def until_gone(self, session_id):
        """Waits until a session has expired, without keeping it alive by asking after it."""
        sessions = lambda: [agent.session_id for agent in self.agents()]
        until(lambda: session_id not in sessions(), f"session {session_id} is gone")


class Stream:
    """The events of a stream, whose order is checked as they are read: a snapshot first, then each update at the
    sequence after the one before, and each later snapshot beyond."""

    def __init__(self, call):
        self.call = call
        self.sequence = None

    def next(self):
        event = next(self.call)
        if event.WhichOneof("event") == "snapshot":
            found = event.snapshot
            assert self.sequence is None or found.sequence_id > self.sequence
        else:
            found = event.update
            assert found.sequence_id == self.sequence + 1
        self.sequence = found.sequence_id
        return found

    def snapshot(self):
        """The next event, which is a snapshot."""
        found = self.next()
        assert isinstance(found, model_pb2.ConfigSnapshot), found
        return found

    def update(self):
        """The next event, which is an update."""
        found = self.next()
        assert isinstance(found, model_pb2.ConfigUpdate), found
        return found

    def end(self):
        """How the stream ends, whatever comes before."""
        try:
            while True:
                self.next()
        except grpc.RpcError as error:
            return error.code(), error.details()
        except StopIteration:
            return grpc.StatusCode.OK, ""


def refusal(call):
    """Code and text of a refused call."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError(f"answered: {answer}")


def to_value(plain):
    return json_format.ParseDict(plain, struct_pb2.Value())


def from_value(value):
    return json_format.MessageToDict(value)


def settings(snapshot):
    """The settings of a snapshot by key, each with source and value."""
    return {setting.key: (setting.source, from_value(setting.value)) for setting in snapshot.settings}


def said(update):
    """What an update says, without its sequence."""
    setting = update.setting
    return setting.key, setting.source, from_value(setting.value)
