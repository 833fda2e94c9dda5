//! Open files: each connection is one, and many systems let a program begin with no more than 1,024.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::http;

/// Raises this process's limit of open files as far as the system allows without asking.
pub(crate) fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files: {error}");
    }
}

/// Below which descriptor connections of gRPC have to stay, so that there are some left for HTTP,
/// where probes ask.
pub(crate) fn for_streams() -> usize {
    granted([OWN_FILES, http::CONNECTIONS as u64])
}

/// Below which descriptor connections of HTTP have to stay, so that there are some left for the
/// agent's own files.
pub(crate) fn for_http() -> usize {
    granted([OWN_FILES])
}

/// What is left of all that this process may open, without these parts. Where there are few, each
/// is a quarter.
fn granted<const N: usize>(parts: [u64; N]) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let kept: u64 = parts.iter().map(|part| (*part).min(limit / 4)).sum();
    usize::try_from(limit - kept).unwrap_or(usize::MAX)
}

/// More than the agent opens at a time to read its configuration and credentials, to save what
/// persists, and to reserve sequences.
const OWN_FILES: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_as_the_system_allows_may_be_open() {
        let limits = || getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let (_, hard) = limits();
        setrlimit(Resource::RLIMIT_NOFILE, hard - 1, hard).unwrap();
        raise_limit();
        assert_eq!(limits(), (hard, hard));
    }
}
