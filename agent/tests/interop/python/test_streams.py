"""What a stream says: snapshots, updates, and how both come after a stall."""

import asyncio

import grpc
import pytest
from datadog.api.v1 import api_pb2_grpc
from datadog.model.v1 import model_pb2
from wire import NAME, PATIENCE, REGISTER_FIRST, Client, Stream, channel, credentials, from_value, said, settings
from agent import until
from configstream.admin.v1 import admin_pb2

KINDS = [
    ("is_true", True, "bool_value"),
    ("is_false", False, "bool_value"),
    ("zero", 0, "number_value"),
    ("negative", -42, "number_value"),
    ("largest", 2**53, "number_value"),
    ("smallest", -(2**53), "number_value"),
    ("fraction", 0.1, "number_value"),
    ("tiny", 5e-324, "number_value"),
    ("text", "héllo ✓", "string_value"),
    ("empty_text", "", "string_value"),
    ("number_as_text", "12", "string_value"),
    ("list", [1, "two", False, 4.5, [5], {"six": 6}], "list_value"),
    ("empty_list", [], "list_value"),
    ("map", {"a key": {"b.c": [{"d": [True]}]}, "/": "x"}, "struct_value"),
    ("empty_map", {}, "struct_value"),
]


def test_the_first_event_is_a_snapshot_of_everything(client):
    snapshot = client.stream().snapshot()
    listed = client.admin.List(admin_pb2.ListRequest())
    assert snapshot.origin == "interop.yaml"
    assert (snapshot.epoch, snapshot.sequence_id) == (listed.epoch, listed.sequence)
    assert len(snapshot.settings) > 350
    assert settings(snapshot) == {s.key: (s.source, from_value(s.value)) for s in listed.settings}
    keys = [setting.key for setting in snapshot.settings]
    assert keys == sorted(set(keys))
    # What precedence made of it: the file over the default.
    assert settings(snapshot)["log_level"] == ("file", "warn")
    for setting in snapshot.settings:
        assert setting.source and setting.value.WhichOneof("kind") not in (None, "null_value")
        assert not setting.HasField("unset_source")


@pytest.mark.parametrize("name, value, kind", KINDS, ids=[name for name, *_ in KINDS])
def test_a_value_keeps_its_kind_in_a_snapshot_and_in_an_update(client, name, value, kind):
    stream = client.stream()
    found = next(s for s in stream.snapshot().settings if s.key == f"interop.{name}")
    assert (found.source, found.value.WhichOneof("kind")) == ("file", kind)
    assert from_value(found.value) == value

    key = f"interop.updated.{name}"
    client.set(key, value)
    updated = stream.update()
    assert said(updated) == (key, "agent-runtime", value)
    assert updated.setting.value.WhichOneof("kind") == kind
    # Exactly, also for a double.
    assert updated.setting.value == found.value


def test_an_integer_that_a_double_cannot_carry_travels_as_text(client):
    stream = client.stream()
    stream.snapshot()
    client.set("interop.beyond", str(2**63 - 1))
    assert said(stream.update()) == ("interop.beyond", "agent-runtime", "9223372036854775807")


def test_updates_follow_one_by_one_and_say_what_the_change_was_answered(client):
    stream = client.stream()
    first = stream.snapshot().sequence_id
    for step in range(1, 201):
        committed = client.set("interop.counter", step)
        update = stream.update()
        assert (update.sequence_id, committed.sequence) == (first + step, first + step)
        assert update.origin == "interop.yaml"
        assert said(update) == ("interop.counter", "agent-runtime", step)
        assert not update.setting.HasField("unset_source")


def test_what_changes_nothing_streams_nothing(client):
    client.set("interop.quiet", 1, source="cli")
    stream = client.stream()
    stream.snapshot()
    client.set("interop.quiet", 1, source="cli")
    client.set("interop.quiet", 2)  # Below the command line.
    client.set("interop.marker", 1)
    # The next event, at the next sequence, is the marker.
    assert stream.update().setting.key == "interop.marker"


def test_unset_shows_what_now_wins_and_which_layer_was_cleared(client):
    client.set("interop.zero", 1)
    client.set("interop.zero", 2, source="remote-config")
    stream = client.stream()
    assert settings(stream.snapshot())["interop.zero"] == ("remote-config", 2)
    for cleared, winner in ("remote-config", ("agent-runtime", 1)), ("agent-runtime", ("file", 0)):
        client.unset("interop.zero", source=cleared)
        update = stream.update()
        assert said(update) == ("interop.zero", *winner)
        assert update.setting.unset_source == cleared


def test_a_key_that_vanishes_is_shown_by_a_snapshot_without_it(client):
    client.set("interop.passing", 1)
    stream = client.stream()
    before = stream.snapshot()
    assert "interop.passing" in settings(before)
    client.unset("interop.passing")
    after = stream.snapshot()
    expected = settings(before)
    del expected["interop.passing"]
    assert settings(after) == expected
    assert after.sequence_id == before.sequence_id + 1
    client.set("interop.marker", 2)
    assert stream.update().setting.key == "interop.marker"


def test_a_file_that_changes_arrives_as_one_batch(start, tmp_path):
    file = tmp_path / "batch.yaml"
    file.write_text("batch: {a: 1, b: 1, c: 1}\n")
    with Client(channel(start("--config", file))) as client:
        stream = client.stream()
        assert stream.snapshot().origin == "batch.yaml"
        new = tmp_path / "new.yaml"
        new.write_text("batch: {a: 2, b: 1, c: 2, d: 2}\n")
        new.rename(file)
        updates = [stream.update() for _ in range(3)]
        assert [said(update) for update in updates] == [(f"batch.{k}", "file", 2) for k in "acd"]
        assert [update.batch_remaining for update in updates] == [2, 1, 0]


def test_streams_of_one_channel_are_independent(client):
    session_id = client.register().session_id
    streams = [client.stream(session_id) for _ in range(50)]
    for stream in streams:
        stream.snapshot()
    streams[0].call.cancel()
    assert streams[0].end()[0] == grpc.StatusCode.CANCELLED
    client.set("interop.all", "everybody")
    for stream in streams[1:]:
        assert said(stream.update()) == ("interop.all", "agent-runtime", "everybody")


def test_a_stream_that_is_cancelled_is_forgotten(client):
    session_id = client.register().session_id
    stream = client.stream(session_id)
    stream.snapshot()
    assert [each.name for each in client.streams(session_id)] == ["interop"]
    stream.call.cancel()
    until(lambda: not client.streams(session_id), "the stream is gone")
    client.refresh(session_id)


def test_a_deadline_of_the_client_ends_its_stream(client):
    session_id = client.register().session_id
    request = model_pb2.ConfigStreamRequest(name="interop")
    call = client.secure.StreamConfigEvents(request, metadata=[("session_id", session_id)], timeout=0.5)
    stream = Stream(call)
    assert stream.end()[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: not client.streams(session_id), "the stream is gone")


def test_a_stream_may_be_awaited(agent, client):
    async def follow():
        async with grpc.aio.secure_channel(agent.address, credentials(agent), [NAME]) as aio:
            stub = api_pb2_grpc.AgentSecureStub(aio)
            metadata = [("session_id", client.register().session_id)]
            call = stub.StreamConfigEvents(model_pb2.ConfigStreamRequest(), metadata=metadata, timeout=PATIENCE)
            snapshot = (await call.read()).snapshot
            client.set("interop.awaited", snapshot.sequence_id)
            return snapshot, (await call.read()).update

    snapshot, update = asyncio.run(follow())
    assert update.sequence_id == snapshot.sequence_id + 1
    assert said(update) == ("interop.awaited", "agent-runtime", snapshot.sequence_id)


def stall(client, stream, session_id):
    """Publishes, while nobody reads, until the stream has fallen behind for more than its ring holds."""
    state = lambda: client.streams(session_id)[0]
    sent = 0
    while not state().lagging:
        sent += 1
        last = client.set("interop.large", f"{sent} " + "x" * 100_000)
        assert sent < 5_000, "it never falls behind"
    return sent, last.sequence


def test_a_client_that_stalls_is_repaired_by_a_snapshot(start):
    with Client(channel(start())) as client:
        session_id = client.register().session_id
        stream = client.stream(session_id)
        stream.snapshot()
        sent, last = stall(client, stream, session_id)
        snapshots = []
        # The order is checked on the way. Nobody publishes any more, and yet it gets to the end.
        while stream.sequence < last:
            found = stream.next()
            if isinstance(found, model_pb2.ConfigSnapshot):
                snapshots.append(found)
        assert len(snapshots) == 1
        assert settings(snapshots[0])["interop.large"][1].startswith(f"{sent} ")
        (figures,) = client.streams(session_id)
        assert (figures.resyncs, figures.lag) == (1, 0)
        assert figures.updates_sent + figures.dropped == sent
        client.set("interop.marker", 1)
        assert stream.update().setting.key == "interop.marker"


def test_a_client_that_stalls_beyond_its_session_is_told_when_it_reads_again(start):
    with Client(channel(start("--set", "remote_agent.registry.idle_timeout=2s"))) as client:
        session_id = client.register().session_id
        stream = client.stream(session_id)
        stream.snapshot()
        stall(client, stream, session_id)
        client.until_gone(session_id)
        text = f"session_id '{session_id}' not found: {REGISTER_FIRST}"
        assert stream.end() == (grpc.StatusCode.PERMISSION_DENIED, text)


def test_a_snapshot_beyond_the_clients_own_limit_needs_a_higher_one(start):
    agent = start()
    with Client(channel(agent)) as client:
        for part in range(6):
            client.set(f"interop.part{part}", "x" * 900_000)
        # What grpcio takes by itself is 4 MiB.
        assert client.stream().end()[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    with Client(channel(agent, ("grpc.max_receive_message_length", 128 * 1024 * 1024))) as client:
        assert client.stream().snapshot().ByteSize() > 5_000_000
