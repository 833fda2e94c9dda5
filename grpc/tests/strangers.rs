//! What a client says of something that answers and is no agent.

#[path = "support/mod.rs"]
mod support;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use configstream_grpc::{Address, Connector, Registration, Token};
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::Code;

use support::{Pem, within_deadline};

/// A server of HTTP/2 that trusts as an agent does, and answers everything with one page.
async fn page(status: u16, kind: Option<&'static str>) -> Connector {
    let pem = Pem::generate();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let token = Token::parse(&"ab".repeat(32)).unwrap();
    let connector = Connector::new(address, &pem.identity(), token);
    let tls = TlsAcceptor::from(Arc::new(pem.identity().server_config()));
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let socket = tls.accept(socket).await.unwrap();
        let answer = service_fn(move |_| async move {
            let mut answer = Response::builder().status(status);
            if let Some(kind) = kind {
                answer = answer.header("content-type", kind);
            }
            let body = Full::new(Bytes::from_static(b"<html>welcome</html>"));
            Ok::<_, Infallible>(answer.body(body).unwrap())
        });
        let _ = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(socket), answer)
            .await;
    });
    connector
}

#[tokio::test]
async fn a_page_of_a_proxy_is_said_to_be_no_answer_of_an_agent() {
    for (status, kind, named) in [
        (200, Some("text/html"), "HTTP 200 OK with text/html"),
        (
            502,
            Some("text/html"),
            "HTTP 502 Bad Gateway with text/html",
        ),
        (404, None, "HTTP 404 Not Found with no content type"),
    ] {
        let client = page(status, kind).await.connect().await.unwrap();
        let registration = Registration::new("a");
        let answers = [
            within_deadline(client.register(&registration)).await.err(),
            within_deadline(client.stream("a", "id")).await.err(),
            within_deadline(client.hostname()).await.err(),
            within_deadline(client.list("")).await.err(),
        ];
        for answer in answers {
            let answer = answer.expect("an error");
            assert_eq!(answer.code(), Code::Unknown);
            let text = answer.message();
            assert!(
                text.contains("no gRPC server") && text.contains(named),
                "{text}"
            );
            assert!(text.contains("; give the agent's own address"), "{text}");
        }
    }
}
