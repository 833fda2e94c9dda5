//! The gate in front of every handler: the token, and which call needs none.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::server::credentials::ServerCredentials;
use crate::status::Refusal;

/// Whether a request for `path` with `headers` may reach a handler.
pub(crate) fn admit(
    credentials: &ServerCredentials,
    path: &str,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if path == OPEN_TO_ALL {
        return Ok(());
    }
    match headers.get(AUTHORIZATION) {
        None => Err(Refusal::NoToken),
        Some(value) if credentials.accept(value.as_bytes()) => Ok(()),
        Some(_) => Err(Refusal::WrongToken),
    }
}

const OPEN_TO_ALL: &str = "/datadog.api.v1.Agent/GetHostname";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::bounds::ServerBounds;
    use crate::tls::Identity;
    use crate::token::Token;
    use crate::{Limits, Sessions};

    fn credentials(token: &Token) -> ServerCredentials {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap();
        let pem = certificate.pem() + &key.serialize_pem();
        let identity = Identity::from_pem(pem.as_bytes()).unwrap();
        let bounds = ServerBounds::new(Limits::default(), Sessions::default());
        ServerCredentials::new(identity, token.clone(), bounds)
    }

    #[test]
    fn only_the_host_name_is_open_to_all() {
        let token = Token::parse(&"ab".repeat(32)).unwrap();
        let credentials = credentials(&token);
        let nothing = HeaderMap::new();
        assert_eq!(
            admit(&credentials, "/datadog.api.v1.Agent/GetHostname", &nothing),
            Ok(())
        );
        for path in [
            "/datadog.api.v1.Agent/GetHostname/",
            "/grpc.health.v1.Health/Check",
            "/",
            "",
        ] {
            assert_eq!(admit(&credentials, path, &nothing), Err(Refusal::NoToken));
        }
    }

    #[test]
    fn the_first_authorization_counts() {
        let token = Token::parse(&"ab".repeat(32)).unwrap();
        let credentials = credentials(&token);
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, token.to_authorization());
        assert_eq!(admit(&credentials, "/", &headers), Ok(()));
        headers.insert(AUTHORIZATION, "Bearer no".parse().unwrap());
        headers.append(AUTHORIZATION, token.to_authorization());
        assert_eq!(admit(&credentials, "/", &headers), Err(Refusal::WrongToken));
    }
}
