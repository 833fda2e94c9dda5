"""Trust, keepalive, restarts, and what the standard services say."""

import grpc
import pytest
from agent import PATIENCE, until
from datadog.model.v1 import model_pb2
from google.protobuf import descriptor_pool
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from proxy import Proxy
from wire import NAME, Client, channel, credentials, refusal, said, tls

SERVICES = [
    "configstream.admin.v1.ConfigAdmin",
    "datadog.api.v1.Agent",
    "datadog.api.v1.AgentSecure",
    "datadog.remoteagent.v1.RemoteAgent",
]

# As often as grpcio does it. It heeds the second timeout, not the first.
AGGRESSIVE = [
    ("grpc.keepalive_time_ms", 50),
    ("grpc.keepalive_timeout_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 1_000),
]


def host_name(channel):
    with Client(channel) as client:
        return client.open.GetHostname(model_pb2.HostnameRequest(), timeout=PATIENCE).hostname


@pytest.fixture
def stranger(start):
    """An agent with another certificate, made in the same way for the same names."""
    return start()


@pytest.mark.parametrize("shown", ["no certificate", "another certificate", "no TLS"])
def test_who_does_not_show_the_certificate_reaches_nothing_and_is_counted(client, agent, stranger, shown):
    before = client.status().refused_handshakes
    if shown == "no TLS":
        refused = grpc.insecure_channel(agent.address)
    else:
        other = stranger if shown == "another certificate" else None
        refused = grpc.secure_channel(agent.address, tls(agent, other), [NAME])
    assert refusal(lambda: host_name(refused))[0] == StatusCode.UNAVAILABLE
    until(lambda: client.status().refused_handshakes > before, "the refusal is counted")
    assert client.stream().snapshot()


def test_the_client_refuses_an_agent_with_another_certificate(agent, stranger):
    refused = grpc.secure_channel(stranger.address, tls(agent, stranger), [NAME])
    assert refusal(lambda: host_name(refused))[0] == StatusCode.UNAVAILABLE
    assert host_name(grpc.secure_channel(stranger.address, tls(stranger, stranger), [NAME]))


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_certificate_is_made_out_to_the_names_of_this_machine(agent, name):
    port = agent.address.rsplit(":", 1)[1]
    assert host_name(grpc.secure_channel(f"{name}:{port}", credentials(agent)))


def test_the_client_refuses_the_certificate_under_another_name(agent):
    options = [("grpc.ssl_target_name_override", "example.org")]
    refused = grpc.secure_channel(agent.address, credentials(agent), options)
    assert refusal(lambda: host_name(refused))[0] == StatusCode.UNAVAILABLE


def test_a_unix_socket_serves_the_same(agent, client):
    with Client(channel(agent, address=f"unix:{agent.socket}")) as local:
        stream = local.stream()
        stream.snapshot()
        client.set("interop.local", 1)
        assert said(stream.update()) == ("interop.local", "agent-runtime", 1)


@pytest.mark.parametrize("options", [[], AGGRESSIVE], ids=["default", "aggressive"])
def test_a_stream_stays_however_its_client_keeps_it_alive(agent, client, options):
    with Proxy(agent) as proxy, Client(channel(agent, *options, address=proxy.address)) as follower:
        stream = follower.stream()
        stream.snapshot()
        if options:
            # Nothing is said now but pings, one a second, which is as often as grpcio does it. A server that counts
            # them, as those of grpcio do, hangs up at the third.
            idle_at = proxy.sent_by_client
            until(lambda: proxy.sent_by_client >= idle_at + 5, "five pings")
        for step in range(20):
            client.set("interop.kept", step)
            assert said(stream.update()) == ("interop.kept", "agent-runtime", step)


def test_keepalive_finds_a_connection_that_is_half_open(agent):
    with Proxy(agent) as proxy, Client(channel(agent, *AGGRESSIVE, address=proxy.address)) as follower:
        stream = follower.stream()
        stream.snapshot()
        # The ping that measures the bandwidth is over, and those that keep alive have begun.
        idle_at = proxy.sent_by_client
        until(lambda: proxy.sent_by_client >= idle_at + 2, "two pings")
        proxy.is_silent = True
        assert stream.end()[0] == StatusCode.UNAVAILABLE


def test_a_stop_ends_streams_with_unavailable_and_a_restart_goes_on_beyond(start):
    agent = start()
    with Client(channel(agent, ("grpc.initial_reconnect_backoff_ms", 100))) as client:
        stream = client.stream()
        stream.snapshot()
        client.set("interop.before", 1)
        reached = stream.update().sequence_id
        agent.ask_to_stop()
        assert stream.end() == (StatusCode.UNAVAILABLE, "the server is shutting down")
        agent.wait()

        start(listen=agent.address)
        # The same channel finds it again; the session is new, the sequence is not.
        request = model_pb2.HostnameRequest()
        client.open.GetHostname(request, wait_for_ready=True, timeout=PATIENCE)
        snapshot = client.stream().snapshot()
        assert snapshot.sequence_id == reached + 1
        assert "interop.before" not in [setting.key for setting in snapshot.settings]


def test_an_agent_that_is_killed_is_unavailable(start):
    agent = start()
    with Client(channel(agent)) as client:
        stream = client.stream()
        stream.snapshot()
        agent.kill()
        assert stream.end()[0] == StatusCode.UNAVAILABLE


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_every_service_is_healthy(client, service):
    health = health_pb2_grpc.HealthStub(client.channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_an_unknown_service_has_no_health(client):
    health = health_pb2_grpc.HealthStub(client.channel)
    request = health_pb2.HealthCheckRequest(service="nobody.v1.Nothing")
    assert refusal(lambda: health.Check(request, timeout=PATIENCE))[0] == StatusCode.NOT_FOUND


def test_who_watches_the_health_is_told_of_a_stop(start):
    agent = start()
    with Client(channel(agent)) as client:
        health = health_pb2_grpc.HealthStub(client.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        agent.ask_to_stop()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        # And then it is over: a watch does not hold up the stop.
        assert next(watch, None) is None
        agent.wait()


def test_reflection_lists_the_services(client):
    listed = ProtoReflectionDescriptorDatabase(client.channel).get_services()
    assert set(SERVICES) <= set(listed)
    assert "grpc.health.v1.Health" in listed


def test_reflection_describes_the_messages_as_our_files_do(client):
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(client.channel))
    for ours in model_pb2.ConfigSnapshot, model_pb2.ConfigUpdate, model_pb2.ConfigSetting:
        found = pool.FindMessageTypeByName(ours.DESCRIPTOR.full_name)
        describe = lambda message: [(f.name, f.number, f.type) for f in message.fields]
        assert describe(found) == describe(ours.DESCRIPTOR)
    method = pool.FindServiceByName("datadog.api.v1.AgentSecure").FindMethodByName("StreamConfigEvents")
    assert method.server_streaming and not method.client_streaming
