//! Which bytes bodies give: those that all streams share, as long as there is more than a moment's worth of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use configstream_engine::settings::{Change, Key, Settings, Source};
use configstream_engine::{Engine, Event};
use configstream_proto::datadog::remoteagent::v1::RegisterRemoteAgentRequest;
use http_body::Body as _;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::{EventBody, PIECE_BYTES};
use crate::server::Server;
use crate::server::connections::Link;
use crate::server::core::Core;
use crate::server::open_stream::OpenStream;
use crate::server::peer::Peer;
use crate::server::service::{Connection, Over};
use crate::server::stream::EventStream;
use crate::server::together::Together;
use crate::server::unread::Unread;
use crate::tls::Identity;
use crate::token::Token;

/// A server without a listener, over one setting of so many bytes.
fn core(bytes: usize) -> Arc<Core<Settings>> {
    let engine = Engine::builder(Settings::new()).build().unwrap();
    set(&engine, "large", "x".repeat(bytes));
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = certified.cert.pem() + &certified.signing_key.serialize_pem();
    let identity = Identity::from_pem(pem.as_bytes()).unwrap();
    let token = Token::parse(&"0".repeat(Token::LENGTH)).unwrap();
    let server = Server::builder(engine, identity, token).build();
    server.acceptor.core.clone()
}

fn set(engine: &Engine<Settings>, key: &str, value: String) {
    let change = Change::set(Source::File, Key::parse(key).unwrap(), value);
    engine.publish(&change).unwrap();
}

/// A stream's body as the transport is given it, over a connection of its own.
fn body(core: &Arc<Core<Settings>>) -> Body {
    let request = RegisterRemoteAgentRequest {
        display_name: "remote".into(),
        ..Default::default()
    };
    let link = Arc::new(Link::new(Peer::OfTheHost, CancellationToken::new()));
    let (session_id, _) = core.registry.register(request, &link).unwrap();
    let (_, together) = Together::new();
    let Over { connection, events } = core.over(Connection {
        link,
        unread: Unread::default(),
        turns: together.turns(),
    });
    let reader = events.reader("stream");
    let observer = reader.observer();
    let opened = core.registry.now();
    let over = connection.clone();
    let open = OpenStream::new("stream".into(), session_id, opened, over, observer);
    let stream = EventStream::open(core.clone(), reader, Arc::new(open)).unwrap();
    Body::new(EventBody::new(stream, connection))
}

/// The next piece; `None` when there is nothing to give for now.
fn piece(body: &mut Body) -> Option<Bytes> {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => Some(frame.into_data().expect("it goes on")),
        Poll::Ready(other) => panic!("no piece: {other:?}"),
        Poll::Pending => None,
    }
}

/// Demands that a piece is a view of `whole` from `offset` on, not a copy.
#[track_caller]
fn assert_is_view(piece: &Bytes, whole: &Bytes, offset: usize) {
    let expected = &whole[offset..offset + piece.len()];
    assert_eq!(piece.as_ptr_range(), expected.as_ptr_range());
}

#[tokio::test]
async fn every_piece_of_a_large_snapshot_lies_where_the_one_frame_does() {
    let core = core(3 * PIECE_BYTES);
    let mut bodies = [body(&core), body(&core)];
    let pieces = bodies.each_mut().map(|body| {
        let pieces: Vec<Bytes> = std::iter::from_fn(|| piece(body)).collect();
        assert_eq!(
            pieces.len(),
            4,
            "three large ones, and what goes with the setting"
        );
        pieces
    });
    let head = core.engine.head();
    let frame = core.encoder.snapshot(&head).unwrap();
    for pieces in &pieces {
        let mut offset = 0;
        for piece in pieces {
            assert_is_view(piece, &frame, offset);
            offset += piece.len();
        }
        assert_eq!(offset, frame.len());
    }
    assert_eq!(core.encoder.made().snapshots, 1);
}

#[tokio::test]
async fn what_comes_alone_is_not_copied_though_it_is_small() {
    let core = core(1);
    let mut bodies = [body(&core), body(&core)];
    let mut beside = core.engine.subscribe();
    beside.try_next().unwrap();
    let head = core.engine.head();
    let snapshot = core.encoder.snapshot(&head).unwrap();
    for body in &mut bodies {
        let piece = piece(body).unwrap();
        assert_eq!(piece.len(), snapshot.len());
        assert_is_view(&piece, &snapshot, 0);
    }
    set(&core.engine, "small", "y".to_owned());
    let Ok(Event::Update(update)) = beside.try_next() else {
        panic!("no update")
    };
    let frame = core.encoder.update(&update).unwrap();
    for body in &mut bodies {
        let piece = piece(body).unwrap();
        assert_eq!(piece.len(), frame.len());
        assert_is_view(&piece, &frame, 0);
    }
    assert_eq!(core.encoder.made().updates, 1);
}

/// The exception: one piece of data costs the transport more than a copy of some bytes.
#[tokio::test]
async fn small_frames_that_are_ready_together_leave_as_one_piece() {
    let core = core(1);
    let mut body = body(&core);
    piece(&mut body).unwrap();
    let mut beside = core.engine.subscribe();
    beside.try_next().unwrap();
    let mut frames = Vec::new();
    for key in ["first", "second"] {
        set(&core.engine, key, "y".to_owned());
        let Ok(Event::Update(update)) = beside.try_next() else {
            panic!("no update")
        };
        frames.extend_from_slice(&core.encoder.update(&update).unwrap());
    }
    assert_eq!(piece(&mut body).unwrap(), frames);
    assert!(piece(&mut body).is_none());
}

#[tokio::test]
async fn watching_a_piece_does_not_move_it() {
    let bytes = Bytes::from(vec![7; PIECE_BYTES]);
    let watched = Unread::default().watch(bytes.slice(1..));
    assert_eq!(watched.len(), PIECE_BYTES - 1);
    assert_is_view(&watched, &bytes, 1);
    // What a window takes of it is a view, too.
    assert_is_view(&watched.slice(10..20), &bytes, 11);
}
