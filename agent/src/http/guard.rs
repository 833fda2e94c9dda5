//! What every request and every answer has to pass.
//!
//! The port needs no credentials, and on loopback a browser can reach it that shows pages from anywhere. So
//! * a page from elsewhere must not read what is here under a name of its own that it lets point to 127.0.0.1 (DNS rebinding):
//!   on loopback, only names that mean this machine are answered;
//! * what is shown here must not run, embed or be embedded in anything from elsewhere, whatever an agent calls itself;
//! * nothing is kept, since it is old a moment later.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

/// The names under which an agent answers.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Whether any name will do: who listens for other machines cannot know what they call it.
    any: bool,
    /// The name that it was told to listen at.
    given: String,
}

impl Hosts {
    /// The names for a listener that was asked for as `given`, `HOST:PORT`. Warns if other machines can reach it.
    #[must_use]
    pub fn of(listener: &TcpListener, given: &str) -> Self {
        let address = listener.local_addr().ok();
        let any = !address.is_some_and(|address| address.ip().is_loopback());
        if any {
            tracing::warn!(
                "HTTP at {given} can be reached from other machines, by anybody, without credentials: \
                 names of keys, files and remote agents show there, though no values; \
                 listen on 127.0.0.1 unless that is meant"
            );
        }
        let given = given.rsplit_once(':').map_or(given, |(host, _)| host);
        Self {
            any,
            given: given.to_owned(),
        }
    }

    /// Whether this is a name of the agent, with or without a port: a tunnel may lead here from any.
    fn know(&self, name: &[u8]) -> bool {
        if self.any {
            return true;
        }
        let Ok(authority) = Authority::try_from(name) else {
            return false;
        };
        let host = authority.host();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || host.eq_ignore_ascii_case(&self.given)
            || address
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// Whether a request asks for the agent. One without any name does: no browser sends such.
    fn are_asked_by(&self, request: &Request) -> bool {
        let named = request.headers().get_all(header::HOST).iter();
        let mut named = named.map(HeaderValue::as_bytes);
        let target = request.uri().authority();
        named.all(|name| self.know(name))
            && target.is_none_or(|target| self.know(target.as_str().as_bytes()))
    }
}

/// Refuses what is not to be answered, and says with each answer what a browser may do with it.
pub(super) async fn check(
    State(hosts): State<Arc<Hosts>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = if !hosts.are_asked_by(&request) {
        (StatusCode::MISDIRECTED_REQUEST, STRANGE_HOST).into_response()
    } else if ![Method::GET, Method::HEAD].contains(request.method()) {
        let allow = [(header::ALLOW, "GET, HEAD")];
        (StatusCode::METHOD_NOT_ALLOWED, allow, READ_ONLY).into_response()
    } else {
        next.run(request).await
    };
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

const STRANGE_HOST: &str = "\
this agent answers HTTP for its own machine only: ask for localhost, 127.0.0.1 or [::1]
(the Host header names another; this keeps web pages from elsewhere out)
";

const READ_ONLY: &str = "nothing can be changed here: use GET or HEAD\n";

const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn hosts(given: &str) -> Hosts {
        let listener = TcpListener::bind(given).await.unwrap();
        Hosts::of(&listener, given)
    }

    #[tokio::test]
    async fn on_loopback_only_names_of_this_machine_are_known() {
        let hosts = hosts("127.0.0.1:0").await;
        for name in [
            "localhost",
            "localhost:5002",
            "LOCALHOST:80",
            "127.0.0.1",
            "127.0.0.1:9",
            "127.8.8.8:1",
            "[::1]",
            "[::1]:5002",
        ] {
            assert!(hosts.know(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "evil.example",
            "evil.example:5002",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "192.168.1.1:5002",
            "[::2]",
            "0.0.0.0:5002",
            "\u{f6}",
            "a b",
        ] {
            assert!(!hosts.know(name.as_bytes()), "{name}");
        }
    }

    #[tokio::test]
    async fn the_name_it_was_told_to_listen_at_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hosts = Hosts::of(&listener, "this-machine:5002");
        assert!(hosts.know(b"this-machine:5002") && !hosts.know(b"that-machine:5002"));
    }

    #[tokio::test]
    async fn who_listens_for_other_machines_answers_to_any_name() {
        assert!(hosts("0.0.0.0:0").await.know(b"metrics.example:5002"));
    }

    #[tokio::test]
    async fn every_name_in_a_request_counts() {
        let hosts = hosts("127.0.0.1:0").await;
        let asked = |target: &str, names: &[&str]| {
            let mut request = Request::builder().uri(target);
            for name in names {
                request = request.header(header::HOST, *name);
            }
            hosts.are_asked_by(&request.body(Body::empty()).unwrap())
        };
        assert!(asked("/", &[]));
        assert!(asked("/", &["localhost"]));
        assert!(asked("http://localhost/", &["localhost"]));
        assert!(!asked("/", &["evil.example"]));
        assert!(!asked("/", &["localhost", "evil.example"]));
        assert!(!asked("http://evil.example/", &["localhost"]));
    }
}
