"""Registering, refreshing, and everything that is refused."""

import uuid

import grpc
import pytest
from datadog.model.v1 import model_pb2
from datadog.remoteagent.v1 import remoteagent_pb2
from grpc import StatusCode
from wire import PATIENCE, REGISTER_FIRST, Client, channel, refusal, without_token

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("service", ["secure", "remote"])
def test_registering_gives_a_uuid_and_when_to_refresh(client, service):
    request = remoteagent_pb2.RegisterRemoteAgentRequest(display_name="interop")
    answer = getattr(client, service).RegisterRemoteAgent(request)
    assert uuid.UUID(answer.session_id).version == 4
    assert answer.recommended_refresh_interval_secs == 10


def test_both_register_paths_share_one_table_of_sessions(client):
    request = remoteagent_pb2.RegisterRemoteAgentRequest(display_name="interop")
    for here, there in (client.secure, client.remote), (client.remote, client.secure):
        session_id = here.RegisterRemoteAgent(request).session_id
        there.RefreshRemoteAgent(remoteagent_pb2.RefreshRemoteAgentRequest(session_id=session_id))
        client.stream(session_id).snapshot()


def test_registering_again_is_a_second_session(client):
    first, second = client.register(), client.register()
    assert first.session_id != second.session_id
    for session in first, second:
        client.refresh(session.session_id)
        client.stream(session.session_id).snapshot()


def test_an_agent_is_listed_as_it_described_itself(client):
    described = dict(pid="7", flavor="python", api_endpoint_uri="https://localhost:1", services=["a", "b"])
    session_id = client.register("  a name ", **described).session_id
    listed = [agent for agent in client.agents() if agent.session_id == session_id]
    assert [agent.display_name for agent in listed] == ["  a name "]
    assert {name: getattr(listed[0], name) for name in described} == described


@pytest.mark.parametrize("uri", ["", "localhost:5011", "https://localhost", "unix:///a/b", "vsock://3:5011"])
def test_known_kinds_of_endpoint_are_accepted(client, uri):
    client.register(api_endpoint_uri=uri)


@pytest.mark.parametrize(
    "name, uri, text",
    [
        ("", "", "remote agent display name must not be empty or whitespace-only"),
        (" \t", "", "remote agent display name must not be empty or whitespace-only"),
        (
            "x",
            "http://localhost:1",
            'unsupported api_endpoint_uri scheme "http" (expected one of: unix, https, vsock)',
        ),
        ("x", "vsock://3", 'malformed vsock api_endpoint_uri "vsock://3" (expected vsock://<cid>:<port>)'),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(client, name, uri, text):
    call = lambda: client.register(name, api_endpoint_uri=uri)
    assert refusal(call) == (StatusCode.INVALID_ARGUMENT, text)


def test_refreshing_an_unknown_session_is_refused(client):
    for session_id in UNKNOWN, "", "no uuid":
        text = "no remote agent found with session ID"
        assert refusal(lambda: client.refresh(session_id)) == (StatusCode.NOT_FOUND, text)


@pytest.mark.parametrize(
    "metadata, code, text",
    [
        ([], StatusCode.UNAUTHENTICATED, "session_id required in metadata: "),
        ([("session_id", "")], StatusCode.UNAUTHENTICATED, "session_id cannot be empty: "),
        ([("session_id", UNKNOWN)], StatusCode.PERMISSION_DENIED, f"session_id '{UNKNOWN}' not found: "),
    ],
)
def test_a_stream_without_a_session_is_refused(client, metadata, code, text):
    assert refusal(lambda: next(client.events(*metadata))) == (code, text + REGISTER_FIRST)


def test_only_the_first_session_id_counts(client):
    session_id = client.register().session_id
    good, bad = ("session_id", session_id), ("session_id", UNKNOWN)
    assert next(client.events(good, bad)).HasField("snapshot")
    code, _ = refusal(lambda: next(client.events(bad, good)))
    assert code == StatusCode.PERMISSION_DENIED


def test_a_session_that_is_not_refreshed_expires(start):
    with Client(channel(start("--set", "remote_agent.registry.idle_timeout=1s"))) as client:
        session_id = client.register().session_id
        client.until_gone(session_id)
        assert refusal(lambda: client.refresh(session_id))[0] == StatusCode.NOT_FOUND
        text = f"session_id '{session_id}' not found: {REGISTER_FIRST}"
        call = lambda: next(client.events(("session_id", session_id)))
        assert refusal(call) == (StatusCode.PERMISSION_DENIED, text)


def test_an_open_stream_keeps_its_session_alive(start):
    with Client(channel(start("--set", "remote_agent.registry.idle_timeout=1s"))) as client:
        session_id = client.register().session_id
        stream = client.stream(session_id)
        stream.snapshot()
        # One that is refreshed by nobody, and registered later, is gone first.
        client.until_gone(client.register("other").session_id)
        client.set("interop.alive", True)
        assert stream.update().setting.key == "interop.alive"
        client.refresh(session_id)


def test_a_registry_that_is_disabled_says_so(start):
    with Client(channel(start("--set", "remote_agent.registry.enabled=false"))) as client:
        text = "remote agent registry not enabled"
        for call in (
            client.register,
            lambda: client.refresh(UNKNOWN),
            lambda: next(client.events()),
            lambda: next(client.events(("session_id", UNKNOWN))),
        ):
            assert refusal(call) == (StatusCode.UNIMPLEMENTED, text)


def test_the_host_name_is_told_without_a_token(agent):
    with Client(without_token(agent)) as client:
        assert client.open.GetHostname(model_pb2.HostnameRequest(), timeout=PATIENCE).hostname


@pytest.mark.parametrize(
    "authorization, text",
    [
        (None, "authorization required in metadata: Bearer <token>"),
        ("Bearer " + "0" * 64, "invalid authorization token"),
        ("Bearer ", "invalid authorization token"),
        ("Basic {token}", "invalid authorization token"),
        ("{token}", "invalid authorization token"),
    ],
)
def test_every_other_call_needs_the_token(agent, authorization, text):
    metadata = authorization and [("authorization", authorization.format(token=agent.token))]
    with Client(without_token(agent)) as client:
        known = client.secure.TaggerFetchEntity
        for call in (
            lambda: known(model_pb2.FetchEntityRequest(), metadata=metadata),
            lambda: client.remote.RegisterRemoteAgent(
                remoteagent_pb2.RegisterRemoteAgentRequest(display_name="x"), metadata=metadata
            ),
            lambda: next(client.secure.StreamConfigEvents(model_pb2.ConfigStreamRequest(), metadata=metadata)),
        ):
            assert refusal(call) == (StatusCode.UNAUTHENTICATED, text)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_of_the_token_is_in_any_letter_case(agent, scheme):
    with Client(without_token(agent)) as client:
        metadata = [("authorization", f"{scheme} {agent.token}")]
        client.secure.TaggerFetchEntity(model_pb2.FetchEntityRequest(), metadata=metadata)


def test_the_tagger_answers_the_same_entity_without_tags(client):
    entity = model_pb2.EntityId(prefix="container_id", uid="abc")
    request = model_pb2.FetchEntityRequest(id=entity, cardinality=model_pb2.HIGH)
    answer = client.secure.TaggerFetchEntity(request)
    assert (answer.id, answer.cardinality, list(answer.tags)) == (entity, model_pb2.HIGH, [])


def test_an_event_is_taken_from_a_known_agent_only(client):
    event = remoteagent_pb2.Event(message="the key is refused", invalid_api_key={})
    report = lambda session_id: client.remote.ReportRemoteAgentEvent(
        remoteagent_pb2.ReportRemoteAgentEventRequest(session_id=session_id, events=[event])
    )
    report(client.register().session_id)
    assert refusal(lambda: report(UNKNOWN))[0] == StatusCode.NOT_FOUND


def test_a_method_that_is_not_there_is_unimplemented(client):
    for path in "/datadog.api.v1.AgentSecure/Nothing", "/nobody.v1.Nothing/Nothing":
        call = client.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        assert refusal(lambda: call(b""))[0] == StatusCode.UNIMPLEMENTED


def test_a_compressed_request_is_refused_and_told_what_is_accepted(client):
    request = remoteagent_pb2.RegisterRemoteAgentRequest(display_name="x" * 1000)
    call = lambda: client.secure.RegisterRemoteAgent(request, compression=grpc.Compression.Gzip)
    assert refusal(call)[0] == StatusCode.UNIMPLEMENTED
