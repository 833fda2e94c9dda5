//! The gate in front of every handler: the token, and which call needs none.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::status::Refusal;
use crate::token::Token;

/// Whether a request for `path` with `headers` may reach a handler.
pub(crate) fn admit(token: &Token, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    if path == OPEN_TO_ALL {
        return Ok(());
    }
    match headers.get(AUTHORIZATION) {
        None => Err(Refusal::NoToken),
        Some(value) if token.is_presented_by(value.as_bytes()) => Ok(()),
        Some(_) => Err(Refusal::WrongToken),
    }
}

const OPEN_TO_ALL: &str = "/datadog.api.v1.Agent/GetHostname";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_name_is_open_to_all() {
        let token = Token::parse(&"ab".repeat(32)).unwrap();
        let nothing = HeaderMap::new();
        assert_eq!(
            admit(&token, "/datadog.api.v1.Agent/GetHostname", &nothing),
            Ok(())
        );
        for path in [
            "/datadog.api.v1.Agent/GetHostname/",
            "/grpc.health.v1.Health/Check",
            "/",
            "",
        ] {
            assert_eq!(admit(&token, path, &nothing), Err(Refusal::NoToken));
        }
    }

    #[test]
    fn the_first_authorization_counts() {
        let token = Token::parse(&"ab".repeat(32)).unwrap();
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, token.to_authorization());
        assert_eq!(admit(&token, "/", &headers), Ok(()));
        headers.insert(AUTHORIZATION, "Bearer no".parse().unwrap());
        headers.append(AUTHORIZATION, token.to_authorization());
        assert_eq!(admit(&token, "/", &headers), Err(Refusal::WrongToken));
    }
}
