//! What a remote agent says of itself, and whether that makes sense.

use configstream_proto::datadog::remoteagent::v1::RegisterRemoteAgentRequest;

use crate::status::Refusal;

/// A remote agent, as it described itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The name for people; never blank.
    pub display_name: String,
    /// Which program it is.
    pub flavor: String,
    /// Its process, in its own words.
    pub pid: String,
    /// Where it could be called back. Nobody does.
    pub api_endpoint_uri: String,
    /// The services it would answer there.
    pub services: Vec<String>,
}

impl Registration {
    /// A remote agent called `display_name`, which says no more of itself.
    #[must_use]
    pub fn new(display_name: impl Into<String>) -> Self {
        Self {
            display_name: display_name.into(),
            ..Self::default()
        }
    }

    /// How much memory the texts of a registration may take, in bytes; it is kept as long as its
    /// session. Each service takes the size of a `String` beside its text.
    pub const MAX_BYTES: usize = 4 * 1024;

    /// Checks what cannot be right whatever the agent is: a blank name, an address of an unknown or malformed kind, more
    /// text than anybody needs.
    pub(crate) fn check(request: RegisterRemoteAgentRequest) -> Result<Self, Refusal> {
        let services = request.services.iter();
        let services = services.map(|service| size_of::<String>() + service.len());
        let fields = [
            ("display_name", request.display_name.len()),
            ("flavor", request.flavor.len()),
            ("pid", request.pid.len()),
            ("api_endpoint_uri", request.api_endpoint_uri.len()),
            ("services", services.sum()),
        ];
        let size = fields.iter().map(|(_, size)| size).sum();
        if size > Self::MAX_BYTES {
            let (field, most) = fields
                .into_iter()
                .max_by_key(|(_, size)| *size)
                .expect("there are five");
            return Err(Refusal::RegistrationTooLarge {
                size,
                field,
                most,
                limit: Self::MAX_BYTES,
            });
        }
        if request.display_name.trim().is_empty() {
            return Err(Refusal::BlankDisplayName);
        }
        check_endpoint(&request.api_endpoint_uri)?;
        // What was grown while it was decoded may be larger than what is in it.
        let exactly = |text: String| text.into_boxed_str().into_string();
        let services: Box<[String]> = request.services.into_iter().map(exactly).collect();
        Ok(Self {
            display_name: exactly(request.display_name),
            flavor: exactly(request.flavor),
            pid: exactly(request.pid),
            api_endpoint_uri: exactly(request.api_endpoint_uri),
            services: services.into_vec(),
        })
    }
}

fn check_endpoint(uri: &str) -> Result<(), Refusal> {
    // `host:port` has a colon too, so only `://` tells a scheme.
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Ok(());
    };
    match scheme.to_ascii_lowercase().as_str() {
        "unix" | "https" => Ok(()),
        "vsock" if is_vsock(rest) => Ok(()),
        "vsock" => Err(Refusal::MalformedVsock {
            uri: uri.to_owned(),
        }),
        _ => Err(Refusal::UnsupportedScheme {
            scheme: scheme.to_owned(),
        }),
    }
}

/// `<cid>:<port>`, both unsigned 32-bit numbers; the well-known contexts may be named.
fn is_vsock(address: &str) -> bool {
    let Some((cid, port)) = address.split_once(':') else {
        return false;
    };
    let cid_is_fine = matches!(cid, "hypervisor" | "local" | "host") || is_u32(cid);
    cid_is_fine && is_u32(port)
}

fn is_u32(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(display_name: &str, uri: &str) -> Result<Registration, String> {
        Registration::check(RegisterRemoteAgentRequest {
            display_name: display_name.into(),
            api_endpoint_uri: uri.into(),
            ..Default::default()
        })
        .map_err(|refusal| tonic::Status::from(refusal).message().to_owned())
    }

    #[test]
    fn a_blank_name_is_refused() {
        for blank in ["", " ", "\t\n", "\u{2003}"] {
            assert_eq!(
                check(blank, "localhost:1").unwrap_err(),
                "remote agent display name must not be empty or whitespace-only"
            );
        }
    }

    #[test]
    fn known_kinds_of_address_are_accepted() {
        for uri in [
            "",
            "localhost:5011",
            "127.0.0.1:0",
            "https://localhost",
            "https://[::1]:5011",
            "HTTPS://localhost:1",
            "unix:///var/run/agent.sock",
            "vsock://3:5011",
            "vsock://host:5011",
        ] {
            check("x", uri).unwrap();
        }
    }

    #[test]
    fn other_schemes_are_refused_by_name() {
        assert_eq!(
            check("x", "http://localhost:1").unwrap_err(),
            "unsupported api_endpoint_uri scheme \"http\" (expected one of: unix, https, vsock)"
        );
    }

    #[test]
    fn more_text_than_anybody_needs_is_refused() {
        check(&"x".repeat(4_096), "").unwrap();
        let text = check(&"x".repeat(4_090), "localhost:1").unwrap_err();
        assert_eq!(
            text,
            "remote agent registration takes 4101 bytes, display_name alone 4090: the limit is 4096"
        );
    }

    #[test]
    fn services_count_for_the_memory_they_take_however_short_they_are() {
        let services = |count| {
            let request = RegisterRemoteAgentRequest {
                display_name: "x".into(),
                services: vec![String::new(); count],
                ..Default::default()
            };
            Registration::check(request).map(|registration| registration.services.capacity())
        };
        assert_eq!(services(170), Ok(170));
        let text = tonic::Status::from(services(4_000).unwrap_err());
        assert_eq!(
            text.message(),
            "remote agent registration takes 96001 bytes, services alone 96000: the limit is 4096"
        );
    }

    #[test]
    fn a_malformed_vsock_is_refused() {
        for uri in [
            "vsock://",
            "vsock://3",
            "vsock://3:",
            "vsock://:1",
            "vsock://x:1",
            "vsock://3:-1",
            "vsock://3:4294967296",
        ] {
            let text = check("x", uri).unwrap_err();
            assert!(text.contains("vsock") && text.contains(uri), "{text}");
        }
    }
}
