//! A process of its own, since it runs out of descriptors.

mod support;

use std::fs;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use configstream_grpc::Limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use support::{Host, within_deadline};
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn strangers_that_hold_every_descriptor_keep_nobody_out() {
    let limits = Limits::default().handshake_timeout(Duration::from_secs(3_600));
    let host = Host::start_with(|server| server.limits(limits)).await;
    // Nothing is awaited, so nobody is accepted yet: these wait in a row, who is good at its end.
    let connect = || TcpStream::connect(host.address).unwrap();
    let _strangers: Vec<_> = (0..40).map(|_| connect()).collect();
    let good = connect();
    good.set_nonblocking(true).unwrap();
    let good = tokio::net::TcpStream::from_std(good).unwrap();

    let in_use = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, in_use + 20, hard).unwrap();
    let tls = TlsConnector::from(Arc::new(host.pem.identity().client_config()));
    let name = ServerName::try_from("localhost").unwrap();
    within_deadline(tls.connect(name, good)).await.unwrap();
    assert!(host.handle.stats().refused_handshakes >= 20);
}
