//! Links that are slow, that swallow everything, and proxies that end connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use configstream_engine::settings::{Key, Source};
use configstream_grpc::consumer::{Access, Consumer};
use configstream_grpc::{Address, Registration};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::harness::{Attack, Target};
use crate::proxy::{Mode, Proxy};
use crate::support::PATIENCE;

/// A port from which connections lead to the agent, and so many bytes a second from there to the
/// client.
fn slow_link(target: &Target, bytes_per_second: usize) -> Address {
    const PIECES: usize = 20;
    let agent = target.grpc;
    let listener = target.runtime.block_on(TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    target.runtime.spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = TcpStream::connect(agent).await?;
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let down = async {
                    let mut piece = vec![0; bytes_per_second / PIECES];
                    let mut pace = tokio::time::interval(Duration::from_secs(1) / 20);
                    loop {
                        pace.tick().await;
                        let count = from_server.read(&mut piece).await?;
                        if count == 0 {
                            return to_client.shutdown().await;
                        }
                        to_client.write_all(&piece[..count]).await?;
                    }
                };
                tokio::try_join!(up, down).map(|_| ())
            });
        }
    });
    Address::Tcp(address.to_string())
}

/// Settings of so many KiB.
fn large_configuration(kib: usize) -> String {
    let text = "x".repeat(1_000);
    let keys = (0..kib).map(|number| format!("  key{number}: {text}\n"));
    format!("large:\n{}", keys.collect::<String>())
}

/// The first snapshot takes several times as long as an answer may, and bytes keep coming.
#[test]
fn clients_on_slow_links_get_their_snapshot_and_hold_up_nobody() {
    let (kib, bytes_per_second) = (1_500, 500_000);
    let attack = Attack::new().configuration(large_configuration(kib));
    attack.memory_mib(32).run(|target| {
        let link = slow_link(target, bytes_per_second);
        let consumers: Vec<_> = (0..target.scaled(3, 20))
            .map(|number| {
                let access = Access::files(
                    link.clone(),
                    target.run_dir.join("ipc_cert.pem"),
                    target.run_dir.join("auth_token"),
                );
                Consumer::builder(access, Registration::new(format!("slow {number}")))
                    .answer_timeout(Duration::from_secs(1))
                    .start_thread()
                    .unwrap()
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        for consumer in consumers {
            let left = deadline.saturating_duration_since(Instant::now());
            let head = consumer.wait_ready_blocking(left);
            let head = head.expect("a snapshot over a slow link");
            assert!(head.state().len() > kib);
        }
    });
}

/// Links that pass nothing any more: neither end hears of it, and changes go on that are larger
/// than every buffer.
#[test]
fn streams_into_black_holes_hold_no_more_than_their_bound() {
    let streams = 20;
    // Half a MiB for each, and the rings with the updates that they share.
    let attack = Attack::new().set("config_stream.stall_timeout=2s");
    attack.memory_mib(10 + 32).run(|target| {
        let proxy = target.runtime.block_on(Proxy::start(target.grpc));
        let access = Access::files(
            Address::Tcp(proxy.address.to_string()),
            target.run_dir.join("ipc_cert.pem"),
            target.run_dir.join("auth_token"),
        );
        let lost: Vec<_> = (0..streams)
            .map(|number| {
                let registration = Registration::new(format!("lost {number}"));
                let consumer = Consumer::builder(access.clone(), registration);
                let consumer = consumer.start_thread().unwrap();
                consumer.wait_ready_blocking(PATIENCE).unwrap();
                consumer
            })
            .collect();
        proxy.set(Mode::Freeze);
        let key = Key::parse("attacks.large").unwrap();
        let changes = target.scaled(100, 1_000);
        target.runtime.block_on(async {
            let client = target.connector.connect().await.unwrap();
            for number in 0..changes {
                let value = format!("{number} {}", "x".repeat(100_000));
                let value = value.as_str().into();
                let set = client.set(Source::AgentRuntime, &key, &value, "attacks");
                set.await.unwrap();
            }
        });
        target.last();
        drop(lost);
    });
}

/// A proxy of HTTP/2 that says goodbye on each connection after so many requests, and lets what is
/// open go on: nginx with `keepalive_requests`, a load balancer that drains.
fn goodbye_proxy(target: &Target, requests: usize) -> Address {
    let acceptor = TlsAcceptor::from(Arc::new(target.identity.server_config()));
    let connector = TlsConnector::from(Arc::new(target.identity.client_config()));
    let agent = target.grpc;
    let listener = target.runtime.block_on(TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    target.runtime.spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let client = acceptor.accept(client).await?;
                let name = ServerName::try_from("localhost").unwrap();
                let server = connector
                    .connect(name, TcpStream::connect(agent).await?)
                    .await?;
                let (sender, upstream) = hyper::client::conn::http2::handshake::<_, _, Incoming>(
                    TokioExecutor::new(),
                    TokioIo::new(server),
                )
                .await
                .map_err(std::io::Error::other)?;
                tokio::spawn(upstream);
                let enough = Arc::new(Notify::new());
                let seen = std::sync::atomic::AtomicUsize::new(0);
                let served = service_fn(|request: hyper::Request<Incoming>| {
                    let count = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                    let (enough, mut sender) = (enough.clone(), sender.clone());
                    async move {
                        let answer = sender.send_request(request).await;
                        if count == requests {
                            enough.notify_one();
                        }
                        answer
                    }
                });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let mut connection =
                    std::pin::pin!(http.serve_connection(TokioIo::new(client), served));
                tokio::select! {
                    _ = connection.as_mut() => return Ok::<_, std::io::Error>(()),
                    () = enough.notified() => {}
                }
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
                Ok(())
            });
        }
    });
    Address::Tcp(address.to_string())
}

/// The good client is behind it, refreshes each second, and keeps its stream.
#[test]
fn a_proxy_that_says_goodbye_ends_no_stream() {
    let attack = Attack::new().set("remote_agent.registry.recommended_refresh_interval=1s");
    let attack = attack.good_client_at(|target| goodbye_proxy(target, 2));
    attack.run(|target| {
        target.last_for(target.lasting().max(Duration::from_secs(4)));
    });
}
