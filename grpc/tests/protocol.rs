//! PROTOCOL.md, statement by statement, and the test that shows each. Those that nothing else shows are at the bottom of this
//! file; [`every_statement_names_a_test_that_exists`] reads this table.
//!
//! | statement | test |
//! | --- | --- |
//! | **1. Services** | |
//! | each path is served | `grpc/tests/contract.rs`: `each_path_is_served` |
//! | request and reply as listed, and whether they stream | `grpc/tests/contract.rs`: `each_method_has_the_documented_request_and_reply` |
//! | both register paths share one session table | `grpc/tests/sessions.rs`: `both_services_share_one_table` |
//! | an event of an unknown session is an error | `grpc/tests/sessions.rs`: `both_services_share_one_table` |
//! | the tagger answers the same entity with no tags | `grpc/tests/services.rs`: `the_tagger_knows_every_entity_and_no_tags` |
//! | the host name is the only call that needs no token | `grpc/tests/contract.rs`: `each_path_but_the_host_name_needs_the_token` |
//! | health | `grpc/tests/services.rs`: `every_service_is_healthy` |
//! | reflection, under both its names | `grpc/tests/services.rs`: `reflection_lists_every_service_and_its_files`, `reflection_answers_what_nobody_knows_and_goes_on`, `reflection_is_there_under_its_older_name_too` |
//! | administration: same TLS and token, no session | `grpc/tests/contract.rs`: `each_path_but_the_host_name_needs_the_token`; `grpc/tests/administration.rs`: `what_wins_can_be_read_one_by_one_and_by_section` |
//! | **2. Messages** | |
//! | each message has the fields listed, by name, number and type | `grpc/tests/contract.rs`: `each_message_has_the_documented_fields` |
//! | fields of our own start at 100 | `grpc/tests/contract.rs`: `each_message_has_the_documented_fields` |
//! | `batch_remaining` is how many updates of the batch follow | `grpc/tests/stream.rs`: `a_batch_says_how_much_of_it_follows` |
//! | the bytes are those of the generated types | `grpc/tests/wire.rs`: `events_are_what_the_generated_types_encode_to` |
//! | **3. Authentication** | |
//! | the certificate: P-256, CA, usages, names, long validity | `agent/src/credentials.rs`: `the_certificate_is_authority_server_and_client_for_long` |
//! | mode 0600, `CERTIFICATE` then `EC PRIVATE KEY` | `agent/src/credentials.rs`: `what_is_created_is_private_and_in_the_form_that_clients_read` |
//! | on reading, SEC1 and PKCS#8 | `grpc/tests/tls.rs`: `both_encodings_of_a_key_are_read`; `agent/src/credentials.rs`: `pkcs8_is_read_too` |
//! | TLS 1.3 only, on both sides | `grpc/tests/protocol.rs`: `an_older_tls_is_refused`, `a_client_offers_no_older_tls_and_takes_none` |
//! | ALPN `h2` | `grpc/tests/tls.rs`: `only_http_2_is_spoken` |
//! | a client certificate is required, and exactly that one, with proof of its key | `grpc/tests/authentication.rs`: `only_the_right_certificate_key_token_and_session_open_a_stream` |
//! | the client demands the same of the server | `grpc/tests/authentication.rs`: `a_client_turns_away_from_a_server_that_is_not_the_one_it_knows` |
//! | a refused handshake is counted, and reaches no handler | `grpc/tests/authentication.rs`: `only_the_right_certificate_key_token_and_session_open_a_stream` |
//! | a refused handshake is logged | `grpc/tests/telemetry.rs`: `whoever_is_not_trusted_is_logged_with_the_reason`, `a_refused_handshake_is_counted_and_logged` |
//! | `auth_token`: 64 hex characters, a newline tolerated | `grpc/src/token.rs`: `one_newline_is_tolerated`, `anything_but_64_hexadecimal_characters_is_refused`; `agent/src/credentials.rs`: `a_token_may_end_its_line` |
//! | `Bearer`, in any letter case; missing, other scheme, wrong: Unauthenticated | `grpc/tests/authentication.rs`: `only_the_token_opens_calls`; `grpc/src/token.rs`: `the_scheme_may_have_any_case_and_must_be_there` |
//! | compared in constant time | `grpc/src/token.rs`: `tokens_are_compared_in_constant_time_only` |
//! | both files are created atomically by whoever starts first | `agent/src/credentials.rs`: `of_many_starters_one_wins_and_all_agree` |
//! | TCP and Unix socket, the same on both | `grpc/tests/services.rs`: `a_unix_socket_serves_as_well`; `agent/tests/end_to_end/lifecycle.rs`: `a_unix_socket_serves_the_same_and_goes_with_the_agent` |
//! | **4. Sessions** | |
//! | a session id is a UUID v4; registering again is a second session | `grpc/tests/sessions.rs`: `a_registration_gets_a_version_4_uuid_and_an_interval` |
//! | registering never dials back | `grpc/tests/protocol.rs`: `registering_never_dials_back` |
//! | what is refused, and its text | `grpc/src/server/registration.rs`: `a_blank_name_is_refused`, `other_schemes_are_refused_by_name`, `a_malformed_vsock_is_refused`; `grpc/tests/sessions.rs`: `a_registration_that_cannot_be_right_is_refused` |
//! | what is accepted | `grpc/src/server/registration.rs`: `known_kinds_of_address_are_accepted`; `grpc/tests/protocol.rs`: `registering_never_dials_back` |
//! | idle timeout 60 s, refresh 10 s, sweep 1 s, keepalive 30 s and 20 s, stall timeout 60 s | `grpc/tests/protocol.rs`: `the_defaults_are_the_documented_ones`; `agent/src/granted.rs`: `the_known_defaults_are_those_of_the_library` |
//! | a register and a refresh count as life | `grpc/tests/sessions.rs`: `refreshing_keeps_a_session_and_idling_loses_it`; `grpc/src/server/registry/tests.rs`: `a_refresh_keeps_a_session_whose_stream_takes_nothing` |
//! | a stream's start counts as life | `grpc/tests/protocol.rs`: `a_streams_start_is_life` |
//! | an open stream counts as life while it took a frame, or had none to take | `grpc/src/server/registry/tests.rs`: `an_open_stream_with_nothing_to_take_is_life`, `an_open_stream_that_takes_something_now_and_then_is_life`; `grpc/tests/sessions.rs`: `an_open_stream_is_life` |
//! | an expired session ends its streams within two sweeps | `grpc/src/server/registry/tests.rs`: `an_expired_session_ends_its_streams_with_permission_denied_within_two_sweeps`; `grpc/tests/sessions.rs`: `a_session_that_expires_takes_its_stream_along` |
//! | who does not answer a ping is hung up on, but not before the stall timeout | `grpc/tests/protocol.rs`: `who_does_not_answer_a_ping_is_hung_up_on`, `who_is_stopped_answers_no_ping_and_keeps_its_connection_until_the_stall_timeout` |
//! | a stalled stream loses its connection, one that wakes before does not | `grpc/src/server/registry/tests.rs`: `a_stream_that_stays_stalled_loses_its_connection_and_one_that_wakes_before_does_not`; `grpc/tests/sessions.rs`: `a_stream_that_takes_nothing_loses_its_connection` |
//! | registry disabled: Unimplemented | `grpc/tests/sessions.rs`: `without_a_registry_there_are_no_streams` |
//! | no session, empty, unknown, expired: code and text | `grpc/tests/authentication.rs`: `only_the_right_certificate_key_token_and_session_open_a_stream` |
//! | in this order | `grpc/tests/protocol.rs`: `refusals_come_in_their_order` |
//! | refreshing an unknown session: NotFound | `grpc/tests/sessions.rs`: `refreshing_keeps_a_session_and_idling_loses_it` |
//! | only the first `session_id` counts | `grpc/tests/sessions.rs`: `a_stream_without_a_session_is_told_why` |
//! | **5. The stream** | |
//! | first a complete snapshot | `grpc/tests/stream.rs`: `a_snapshot_comes_first_and_then_each_sequence`, `a_stream_over_nothing_starts_with_an_empty_snapshot` |
//! | then each update at the previous sequence + 1 | `grpc/tests/stream.rs`: `a_snapshot_comes_first_and_then_each_sequence` |
//! | a slow client is repaired by a snapshot, never by skipping | `grpc/tests/stream.rs`: `a_reader_that_stops_is_repaired_by_a_snapshot_when_it_reads_on` |
//! | a repair snapshot carries a higher sequence than anything before | `grpc/tests/stalled.rs`: `streams_that_stop_reading_cost_no_more_than_their_bound_and_come_back_by_one_snapshot` |
//! | one counter, which never goes back over reconnects | `grpc/tests/protocol.rs`: `over_reconnects_no_sequence_goes_back` |
//! | nor over restarts | `agent/tests/end_to_end/restart.rs`: `after_a_kill_a_watch_comes_back_to_a_higher_sequence`, `a_kill_in_the_midst_of_changes_never_leads_back` |
//! | near 2^31 streams end with Unavailable | `grpc/tests/stream.rs`: `sequences_end_where_the_wire_does` |
//! | `sequence_id` is never negative | `grpc/tests/protocol.rs`: `the_last_sequence_is_not_negative_and_none_follows` |
//! | a new epoch starts low | `agent/src/resolver.rs`: `the_next_epoch_begins_where_the_wire_ends`; `grpc/tests/stream.rs`: `a_new_epoch_ends_the_streams_of_the_old` |
//! | without epochs, a counter that begins anew ends the streams | `grpc/tests/stream.rs`: `without_epochs_a_step_back_ends_the_streams_too`; `grpc/src/consumer/follower.rs`: `another_epoch_may_begin_anywhere` |
//! | an update has a setting with a value, a snapshot holds no null | `grpc/tests/wire.rs`: `events_are_what_the_generated_types_encode_to`; `grpc/src/convert.rs`: `null_is_no_value_wherever_it_hides` |
//! | a key that vanishes is shown by a snapshot without it | `grpc/tests/stream.rs`: `unset_says_what_now_wins_and_a_vanished_key_takes_a_snapshot` |
//! | unset: what now wins, and the cleared layer | `grpc/tests/stream.rs`: `unset_says_what_now_wins_and_a_vanished_key_takes_a_snapshot`; `grpc/tests/wire.rs`: `events_are_what_the_generated_types_encode_to` |
//! | `origin`: the base name, or `core-agent`; never empty | `grpc/tests/wire.rs`: `an_origin_is_never_empty`; `agent/tests/end_to_end/file_reload.rs`: `an_edited_file_streams_exactly_what_changed` |
//! | never OK: PermissionDenied when the session has gone | `grpc/tests/sessions.rs`: `a_session_that_expires_takes_its_stream_along` |
//! | never OK: Unavailable on overload | `grpc/tests/hostile.rs`: `streams_without_end_are_refused_where_no_connection_has_more` |
//! | never OK: Unavailable on shutdown, and when the engine closes | `grpc/tests/stream.rs`: `shutting_down_tells_every_stream`, `a_closed_engine_ends_streams` |
//! | messages up to 128 MiB | `grpc/tests/full.rs`: `the_largest_state_arrives_whole_and_one_byte_more_is_rejected`; `grpc/tests/protocol.rs`: `a_snapshot_beyond_every_library_default_arrives`, `the_defaults_are_the_documented_ones` |
//! | a state that could not fit is refused when published | `grpc/tests/full.rs`: `the_largest_state_arrives_whole_and_one_byte_more_is_rejected`; `engine/src/settings/draft.rs`: `the_total_is_judged_at_the_end_of_a_change`, `a_setting_beyond_the_limit_is_rejected_even_in_the_shade` |
//! | the first snapshot follows at once | `grpc/tests/protocol.rs`: `the_first_snapshot_waits_for_nothing`; `agent/tests/end_to_end/lifecycle.rs`: `a_stream_starts_with_a_snapshot_however_many_begin_at_once` |
//! | **6. Sources** | |
//! | the names, low to high | `engine/src/settings/source.rs`: `all_sources_stand_in_order_of_precedence_at_their_index`; `grpc/tests/protocol.rs`: `the_higher_source_wins` |
//! | environment: the prefix is `DD_`, or another | `agent/tests/life.rs`: `variables_start_with_the_prefix_that_is_asked_for` |
//! | environment: known keys, typed; empty is unset | `agent/src/environment.rs`: `known_keys_are_read_as_their_type`, `unknown_and_empty_variables_are_no_settings`, `every_known_key_has_a_variable_of_its_own` |
//! | **7. Telemetry** | |
//! | the server's metrics and log lines, by their names | `grpc/tests/telemetry.rs`: `what_happens_is_counted_and_logged_under_the_documented_names` |
//! | the consumer's metrics, by their names | `grpc/tests/consuming.rs`: `the_consumers_metrics_have_the_documented_names` |
//! | counters count what happened | `agent/tests/end_to_end/telemetry.rs`: `counters_count_what_happened` |
//! | Prometheus writes `.` as `_` | `agent/tests/end_to_end/telemetry.rs`: `the_documented_names_are_there_before_anybody_has_come` |

mod support;

use std::future::ready;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use configstream_engine::settings::{Change, Key, Settings, Source};
use configstream_engine::{Engine, Epoch, Sequence};
use configstream_grpc::{Address, Client, Connector, Limits, Registration, Sessions, Token};
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::{ConfigEvent, ConfigStreamRequest, config_event};
use configstream_proto::datadog::remoteagent::v1::RegisterRemoteAgentRequest;
use hyper_util::rt::TokioIo;
use prost::Message;
use support::peer::{self, Peer};
use support::{
    BEARER, FakeClock, Host, Pem, TOKEN, eventually, expect_end, expect_snapshot, expect_update,
    raw, request, told, within_deadline,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic::transport::Endpoint;

#[test]
fn every_statement_names_a_test_that_exists() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut named = 0;
    for row in include_str!("protocol.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .filter(|line| line.contains(".rs`: "))
    {
        let mut source = String::new();
        // Paths and names stand between backticks; a path holds for the names that follow it.
        for quoted in row
            .rsplit_once(" | ")
            .unwrap()
            .1
            .split('`')
            .skip(1)
            .step_by(2)
        {
            if quoted.ends_with(".rs") {
                source = fs::read_to_string(workspace.join(quoted)).expect(quoted);
            } else {
                assert!(source.contains(&format!("fn {quoted}()")), "{quoted}");
                named += 1;
            }
        }
    }
    assert!(named > 80, "{named}");
}

const STREAM: &str = "/datadog.api.v1.AgentSecure/StreamConfigEvents";

#[tokio::test]
async fn an_older_tls_is_refused() {
    let host = Host::start().await;
    // A hello of TLS 1.2: no extension says that anything newer is known.
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[7; 32]);
    // No session, one suite (ECDHE-ECDSA with AES-128-GCM), no compression.
    hello.extend_from_slice(&[0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // Groups and signatures, without which 1.2 would be refused for want of them.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3];
    hello.extend_from_slice(&[0, 16]);
    hello.extend_from_slice(&extensions);
    let mut record = vec![0x16, 3, 1, 0, u8::try_from(hello.len() + 4).unwrap()];
    record.extend_from_slice(&[1, 0, 0, u8::try_from(hello.len()).unwrap()]);
    record.extend_from_slice(&hello);

    let mut stream = TcpStream::connect(host.address).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = [0; 7];
    within_deadline(stream.read_exact(&mut answer))
        .await
        .unwrap();
    // An alert, fatal, `protocol_version`.
    assert_eq!((answer[0], &answer[5..]), (0x15, &[2, 70][..]));
    eventually("it is counted", || {
        host.handle.stats().refused_handshakes == 1
    })
    .await;
}

#[tokio::test]
async fn a_client_offers_no_older_tls_and_takes_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let token = Token::parse(TOKEN).unwrap();
    let connector = Connector::new(address, &Pem::generate().identity(), token);
    let connecting = tokio::spawn(async move { connector.connect().await });
    let (mut stream, _) = within_deadline(listener.accept()).await.unwrap();

    let mut head = [0; 5];
    within_deadline(stream.read_exact(&mut head)).await.unwrap();
    let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    within_deadline(stream.read_exact(&mut hello))
        .await
        .unwrap();
    // A handshake that begins with a hello, and all it offers is 1.3.
    assert_eq!((head[0], hello[0]), (0x16, 1));
    assert_eq!(supported_versions(&hello), [2, 3, 4]);

    // A server that chooses 1.2 nevertheless: no session, ECDHE-ECDSA with AES-128-GCM, no compression.
    let mut answer = vec![0x16, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3];
    answer.extend_from_slice(&[7; 32]);
    answer.extend_from_slice(&[0, 0xc0, 0x2b, 0]);
    stream.write_all(&answer).await.unwrap();
    let mut alert = [0; 7];
    within_deadline(stream.read_exact(&mut alert))
        .await
        .unwrap();
    // Fatal, `protocol_version`.
    assert_eq!((alert[0], &alert[5..]), (0x15, &[2, 70][..]));
    within_deadline(connecting).await.unwrap().unwrap_err();
}

/// What the extension of that name holds in a client's hello (RFC 8446, 4.1.2 and 4.2.1).
fn supported_versions(hello: &[u8]) -> &[u8] {
    // After the head of the message, the version of old and the random bytes: the session, the suites, the compressions.
    let mut rest = &hello[4 + 2 + 32..];
    for length_bytes in [1, 2, 1] {
        rest = counted(rest, length_bytes).1;
    }
    let (mut extensions, _) = counted(rest, 2);
    loop {
        let (kind, rest) = extensions.split_at_checked(2).expect("supported_versions");
        let (body, next) = counted(rest, 2);
        if kind == [0, 43] {
            return body;
        }
        extensions = next;
    }
}

/// What stands behind its length, and what follows it.
fn counted(bytes: &[u8], length_bytes: usize) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_at(length_bytes);
    let add = |sum, byte: &u8| sum << 8 | usize::from(*byte);
    rest.split_at(length.iter().fold(0, add))
}

#[tokio::test]
async fn registering_never_dials_back() {
    let host = Host::start().await;
    let callee = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    callee.set_nonblocking(true).unwrap();
    let address = callee.local_addr().unwrap();
    let client = host.client().await;
    for uri in [format!("https://{address}"), address.to_string()] {
        // No services, no pid, no flavor.
        let mut registration = Registration::new("remote");
        registration.api_endpoint_uri = uri;
        let session = client.register(&registration).await.unwrap();
        let mut events = client.stream("x", &session.id).await.unwrap();
        expect_snapshot(&mut events).await;
    }
    assert_eq!(
        callee.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let seconds = Duration::from_secs;
    assert_eq!(Sessions::DEFAULT_IDLE_TIMEOUT, seconds(60));
    assert_eq!(Sessions::DEFAULT_RECOMMENDED_REFRESH_INTERVAL, seconds(10));
    assert_eq!(Sessions::DEFAULT_SWEEP_INTERVAL, seconds(1));
    assert_eq!(Limits::DEFAULT_STALL_TIMEOUT, seconds(60));
    assert_eq!(Limits::DEFAULT_KEEPALIVE_INTERVAL, seconds(30));
    assert_eq!(Limits::DEFAULT_KEEPALIVE_TIMEOUT, seconds(20));
    assert_eq!(Limits::DEFAULT_EVENT_BYTES, 128 << 20);
    assert_eq!(Client::MESSAGE_BYTES, 128 << 20);
}

#[tokio::test]
async fn a_streams_start_is_life() {
    let clock = FakeClock::new();
    let sessions = Sessions::default()
        .clock(clock.reader())
        .sweep_interval(Duration::from_secs(3600));
    let host = Host::start_with(|server| server.sessions(sessions)).await;
    let (client, session) = host.session().await;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(59));
        let mut events = client.stream("x", &session.id).await.unwrap();
        expect_snapshot(&mut events).await;
        drop(events);
        eventually("it has gone", || host.handle.stats().streams == 0).await;
        assert_eq!(host.handle.agents()[0].idle, Duration::ZERO);
    }
}

#[tokio::test]
async fn who_does_not_answer_a_ping_is_hung_up_on() {
    let interval = Duration::from_millis(50);
    let limits = Limits::default()
        .keepalive(interval, Duration::from_millis(500))
        .stall_timeout(Duration::from_millis(100));
    let host = Host::start_with(|server| server.limits(limits)).await;
    let (mut good, _) = host.stream().await;
    let mut mute = Peer::speak(&host).await;
    assert!(pings_until_hung_up_on(&mut mute).await > 0);
    // Who answers stays, by its library or by hand.
    let sequence = host.set("a", 1);
    assert_eq!(expect_update(&mut good).await.sequence.get(), sequence);
}

#[tokio::test]
async fn who_is_stopped_answers_no_ping_and_keeps_its_connection_until_the_stall_timeout() {
    let keepalive = |stall_timeout| {
        Limits::default()
            .keepalive(Duration::from_millis(30), Duration::from_millis(20))
            .stall_timeout(stall_timeout)
    };
    let patient = keepalive(Limits::DEFAULT_STALL_TIMEOUT);
    let patient = Host::start_with(|server| server.limits(patient)).await;
    let (_, session) = patient.session().await;
    let mut stopped = Peer::speak(&patient).await;
    let mut bytes = Vec::new();
    peer::request(&mut bytes, 1, STREAM, &session.id);
    assert!(stopped.send(&bytes).await);
    eventually("it streams", || patient.handle.stats().streams == 1).await;

    // The same time and more is too long elsewhere, where a stall may not take longer than an answer.
    let strict =
        Host::start_with(|server| server.limits(keepalive(Duration::from_millis(20)))).await;
    for _ in 0..3 {
        let mut mute = Peer::speak(&strict).await;
        assert_eq!(pings_until_hung_up_on(&mut mute).await, 1);
    }

    // It wakes, finds what has come meanwhile, and goes on.
    patient.set("a", 1);
    let (mut pinged, mut events) = (false, 0);
    while !pinged || events < 2 {
        let frame = stopped.next().await.expect("the connection stays");
        pinged |= frame.kind == peer::PING;
        events += usize::from(frame.kind == peer::DATA);
    }
    assert_eq!(patient.handle.stats().streams, 1);
}

/// How often a peer that answers nothing is asked whether it is there.
async fn pings_until_hung_up_on(mute: &mut Peer) -> usize {
    let mut pings = 0;
    while let Some(frame) = mute.next().await {
        pings += usize::from(frame.kind == peer::PING);
    }
    pings
}

#[tokio::test]
async fn refusals_come_in_their_order() {
    // Each request would be refused for everything that comes later, too.
    let disabled = Host::start_with(|server| server.sessions(Sessions::disabled())).await;
    let enabled = Host::start().await;
    let wrong = ("authorization", "Bearer no");
    let right = ("authorization", BEARER);
    for (host, metadata, code, text) in [
        (
            &disabled,
            &[wrong][..],
            Code::Unauthenticated,
            "invalid authorization token",
        ),
        (
            &disabled,
            &[right],
            Code::Unimplemented,
            "remote agent registry not enabled",
        ),
        (
            &enabled,
            &[right],
            Code::Unauthenticated,
            "session_id required",
        ),
        (
            &enabled,
            &[right, ("session_id", "")],
            Code::Unauthenticated,
            "session_id cannot be empty",
        ),
        (
            &enabled,
            &[right, ("session_id", "x")],
            Code::PermissionDenied,
            "session_id 'x' not found",
        ),
    ] {
        let channel = host.channel(host.pem.identity().client_config()).await;
        let message = request(ConfigStreamRequest::default(), metadata);
        let mut client = AgentSecureClient::new(channel.unwrap());
        let (told_code, told_text) = told(client.stream_config_events(message).await);
        assert_eq!(told_code, code, "{told_text}");
        assert!(told_text.starts_with(text), "{told_text}");
    }
}

#[tokio::test]
async fn over_reconnects_no_sequence_goes_back() {
    let host = Host::start().await;
    let (client, session) = host.session().await;
    let mut reached = 0;
    for value in 0..20 {
        let mut events = client.stream("x", &session.id).await.unwrap();
        let snapshot = expect_snapshot(&mut events).await.sequence.get();
        assert!(snapshot >= reached, "{snapshot} after {reached}");
        // A client in the field refuses a snapshot at or below what it has seen: something has to be published between.
        reached = host.set("a", value);
        assert!(reached > snapshot);
        assert_eq!(expect_update(&mut events).await.sequence.get(), reached);
    }
}

#[tokio::test]
async fn the_last_sequence_is_not_negative_and_none_follows() {
    let last = u64::try_from(i32::MAX).unwrap();
    let engine = Engine::builder(Settings::new())
        .start_at(Epoch::new(1), Sequence::new(last - 2))
        .build()
        .unwrap();
    let host = Host::start_over(engine, |server| server).await;
    let (_, session) = host.session().await;
    let tls = host.pem.identity().client_config();
    let mut events = raw::stream(host.channel(tls).await.unwrap(), &session.id).await;
    let mut next = async || match ConfigEvent::decode(events.next().await)
        .unwrap()
        .event
        .unwrap()
    {
        config_event::Event::Snapshot(snapshot) => snapshot.sequence_id,
        config_event::Event::Update(update) => update.sequence_id,
    };
    assert_eq!(next().await, i32::MAX - 2);
    for value in 0..2 {
        host.set("a", value);
    }
    assert_eq!((next().await, next().await), (i32::MAX - 1, i32::MAX));
    // One more, and whoever comes is told to wait for the next epoch, which starts low and is taken.
    host.set("a", 2);
    let (client, session) = host.session().await;
    let ended = match client.stream("late", &session.id).await {
        Ok(mut events) => expect_end(&mut events).await,
        Err(status) => status,
    };
    assert_eq!(ended.code(), Code::Unavailable);
    let state = host.engine.head().state().clone();
    host.engine
        .adopt(state, Epoch::new(2), Sequence::new(0))
        .unwrap();
    let (_, snapshot) = host.stream().await;
    assert_eq!((snapshot.epoch.get(), snapshot.sequence.get()), (2, 0));
}

/// Over pipes, where nothing depends on the system, and the clock moves only when everybody waits for it: it does not move.
#[tokio::test(start_paused = true)]
async fn the_first_snapshot_waits_for_nothing() {
    let host = Host::start().await;
    let last = host.set("a", 1);
    let (far, near) = tokio::io::duplex(64 * 1024);
    host.handle.serve_connection(near);
    let mut far = Some(TokioIo::new(far));
    let dial = tower::service_fn(move |_| ready(far.take().ok_or("once")));
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(dial)
        .await
        .unwrap();
    let mut client = AgentSecureClient::new(channel.clone());
    let registration = RegisterRemoteAgentRequest {
        display_name: "remote".into(),
        ..Default::default()
    };
    let registering =
        client.register_remote_agent(request(registration, &[("authorization", BEARER)]));
    let session = registering.await.unwrap().into_inner().session_id;

    let begun = tokio::time::Instant::now();
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut events = raw::stream(channel.clone(), &session).await;
        let first = ConfigEvent::decode(events.next().await).unwrap().event;
        let Some(config_event::Event::Snapshot(snapshot)) = first else {
            panic!("not a snapshot: {first:?}")
        };
        assert_eq!(u64::try_from(snapshot.sequence_id).unwrap(), last);
        streams.push(events);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(host.handle.stats().streams, 100);
}

#[tokio::test]
async fn a_snapshot_beyond_every_library_default_arrives() {
    let host = Host::start().await;
    let megabyte = "x".repeat(1 << 20);
    for number in 0..24 {
        host.set(&format!("large.key{number}"), megabyte.as_str());
    }
    let (_, snapshot) = host.stream().await;
    assert_eq!(snapshot.settings.len(), 24);
}

#[tokio::test]
async fn the_higher_source_wins() {
    // PROTOCOL.md, 6, low to high.
    let names = [
        "schema",
        "default",
        "unknown",
        "infra-mode",
        "file",
        "environment-variable",
        "fleet-policies",
        "config-post-init",
        "secret",
        "local-config-process",
        "agent-runtime",
        "remote-config",
        "cli",
    ];
    let host = Host::start().await;
    let (mut events, _) = host.stream().await;
    let key = Key::parse("a").unwrap();
    let sources = names.map(|name| name.parse::<Source>().unwrap());
    for (value, (source, name)) in sources.into_iter().zip(names).enumerate() {
        let value = i64::try_from(value).unwrap();
        let change = Change::set(source, key.clone(), value);
        host.engine.publish(&change).unwrap();
        let update = expect_update(&mut events).await.update;
        assert_eq!(update.setting().source().as_str(), name);
        assert_eq!(update.setting().value().as_i64(), Some(value));
    }
    for (source, next) in sources.iter().zip(&sources[1..]).rev() {
        host.engine
            .publish(&Change::unset(*next, key.clone()))
            .unwrap();
        let update = expect_update(&mut events).await.update;
        assert_eq!(update.setting().source(), *source);
        assert_eq!(update.unset(), Some(*next));
    }
}
