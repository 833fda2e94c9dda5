//! The process that serves, and publishes when told.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::sleep;
use std::time::Duration;

use clap::{Args, ValueEnum};
use configstream_engine::State;
use configstream_engine::settings::{Assignment, Change, Key, Settings, Source};
use nix::sys::prctl;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::access::Access;
use super::clock::{cpu_ns, now_ns, thread_cpu_ns};
use super::control::{self, Published, ServerAnswer, ServerCommand, hear, say};
use super::counted::Counted;
use super::naive::Naive;
use super::ours::Ours;
use crate::settings;

/// What a server process is told to be.
#[derive(Args, Debug)]
pub struct ServerOptions {
    /// Whose server.
    #[arg(long)]
    pub implementation: Implementation,
    #[command(flatten)]
    access: Access,
}

/// Whose server is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Implementation {
    /// This project's.
    Engine,
    /// tonic's, over tokio's broadcast channel.
    NaiveTonic,
    /// Go's net/http, a goroutine and a channel per subscriber.
    Go,
}

impl Implementation {
    /// As it stands in identifiers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::NaiveTonic => "naive_tonic",
            Self::Go => "go",
        }
    }
}

/// A server that can be measured.
pub(super) trait Service: Send + Sync + 'static {
    /// What its own accept loop makes of a Unix socket.
    fn unix(&self, socket: UnixStream) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(socket))
    }

    /// Serves a connection that has been let in.
    fn serve_connection(&self, socket: Socket);

    /// Publishes the `nth` update, whose value says when it was due.
    fn publish(&self, nth: u64, due_ns: u64);

    /// How many updates the slowest stream that reads has not taken yet.
    fn slowest_lag(&self) -> u64;
}

/// Serves until its input ends.
///
/// # Errors
/// What could not be read, bound or accepted.
pub fn serve(options: &ServerOptions) -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let _entered = runtime.enter();
    let settings = workload();
    let service: Arc<dyn Service> = match options.implementation {
        Implementation::Engine => {
            let (identity, token) = (options.access.identity()?, options.access.token()?);
            Arc::new(Ours::start(settings, identity, token))
        }
        Implementation::NaiveTonic => Arc::new(Naive::start(&settings)),
        Implementation::Go => return Err(io::Error::other("that server is a program of its own")),
    };
    let writes = Arc::new(AtomicU64::new(0));
    let address = listen(&options.access, service.clone(), writes.clone())?;
    say(&mut io::stdout(), &ServerAnswer::Listening(address))?;
    // By default the kernel lets a thread oversleep by 50 us.
    prctl::set_timerslack(1)?;
    while let Some(command) = hear(&mut io::stdin().lock())? {
        let publishing = Publishing {
            service: &*service,
            writes: &writes,
            pauses_ns: Cell::new(0),
        };
        let answer = match command {
            ServerCommand::Memory => ServerAnswer::Memory {
                resident_bytes: resident_bytes()?,
            },
            ServerCommand::Paced {
                updates,
                interval_ns,
            } => ServerAnswer::Published(publishing.paced(updates, interval_ns)),
            ServerCommand::Saturated { duration_ns } => {
                ServerAnswer::Published(publishing.saturated(duration_ns))
            }
        };
        say(&mut io::stdout(), &answer)?;
    }
    runtime.shutdown_background();
    Ok(())
}

struct Publishing<'a> {
    service: &'a dyn Service,
    writes: &'a AtomicU64,
    /// Processor time that went into pauses.
    pauses_ns: Cell<u64>,
}

impl Publishing<'_> {
    fn paced(&self, updates: u64, interval_ns: u64) -> Published {
        let start = now_ns() + interval_ns;
        self.measured(start, |publish| {
            for nth in 0..updates {
                let due = start + nth * interval_ns;
                self.pause(Duration::from_nanos(due.saturating_sub(now_ns())));
                publish(due);
            }
        })
    }

    fn saturated(&self, duration_ns: u64) -> Published {
        let start = now_ns();
        self.measured(start, |publish| {
            while now_ns() < start + duration_ns {
                if self.service.slowest_lag() > BEHIND {
                    self.pause(PAUSE);
                    continue;
                }
                for _ in 0..BURST {
                    publish(now_ns());
                }
            }
        })
    }

    /// Runs `work` with a function that publishes, and waits for the streams.
    fn measured(&self, started_ns: u64, work: impl FnOnce(&mut dyn FnMut(u64))) -> Published {
        let mut times = control::histogram();
        let (cpu, writes) = (cpu_ns(), self.writes.load(Ordering::Relaxed));
        let mut updates = 0;
        work(&mut |due| {
            let begun = now_ns();
            self.service.publish(updates, due);
            times.saturating_record(now_ns() - begun);
            updates += 1;
        });
        // At the naive server, streams that are stalled never get there: then it is over when nothing is written any more.
        let end = now_ns() + PATIENCE_NS;
        let (mut written, mut quiet) = (writes, Duration::ZERO);
        while self.service.slowest_lag() > 0 && now_ns() < end && quiet < QUIET {
            self.pause(LOOK);
            let before = std::mem::replace(&mut written, self.writes.load(Ordering::Relaxed));
            quiet = if written == before {
                quiet + LOOK
            } else {
                Duration::ZERO
            };
        }
        self.pause(SETTLE);
        let pauses_ns = self.pauses_ns.take();
        Published {
            updates,
            started_ns,
            cpu_ns: (cpu_ns() - cpu).saturating_sub(pauses_ns),
            pauses_ns,
            writes: self.writes.load(Ordering::Relaxed) - writes,
            publish_ns: control::counted(&times),
        }
    }

    /// Waits, at the expense of the measurement and not of what is measured.
    fn pause(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let before = thread_cpu_ns();
        sleep(time);
        self.pauses_ns.update(|sum| sum + thread_cpu_ns() - before);
    }
}

/// Accepts for as long as the process lives; says where.
fn listen(
    access: &Access,
    service: Arc<dyn Service>,
    writes: Arc<AtomicU64>,
) -> io::Result<String> {
    let tls = match access.tls {
        true => Some(TlsAcceptor::from(Arc::new(
            access.identity()?.server_config(),
        ))),
        false => None,
    };
    let admitting = service.clone();
    let admit = move |socket: Box<dyn Stream>| {
        let (tls, service) = (tls.clone(), admitting.clone());
        let socket = Counted::new(socket, writes.clone());
        tokio::spawn(async move {
            let trusted: Box<dyn Stream> = match tls {
                None => Box::new(socket),
                Some(tls) => match tls.accept(socket).await {
                    Ok(socket) => Box::new(socket),
                    Err(error) => return eprintln!("refused: {error}"),
                },
            };
            service.serve_connection(Socket(trusted));
        });
    };
    if access.unix {
        let path = access.socket();
        let listener = UnixListener::bind(&path)?;
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                match service.unix(socket) {
                    Ok(socket) => admit(socket),
                    Err(error) => return eprintln!("refused: {error}"),
                }
            }
        });
        return Ok(path.display().to_string());
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // As both servers' own accept loops do.
            let _ = socket.set_nodelay(true);
            admit(Box::new(socket));
        }
    });
    Ok(address)
}

/// Any kind of socket.
pub(super) struct Socket(Box<dyn Stream>);

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connected for Socket {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// 350 settings, some of which are updated.
pub(super) fn workload() -> Settings {
    let changing = update_keys().map(|key| Assignment::new(key, 0));
    let layer =
        (0..SETTINGS).map(|nth| Assignment::new(settings::key(nth), settings::value(nth, 0)));
    let change = Change::replace_layer(Source::File, layer.chain(changing));
    let filled = Settings::new().apply(&change);
    filled.expect("well-formed settings").state
}

/// The keys that are updated in turn. An event takes 123 bytes, and one or two more as sequences grow.
pub(super) fn update_keys() -> impl Iterator<Item = Key> {
    (0..CHANGING).map(|nth| {
        let key = format!(
            "integration.section_{nth:02}.instances.collection.settings.parameter_with_a_rather_long_name"
        );
        Key::parse(&key).expect("a well-formed key")
    })
}

/// Which of the `keys` the `nth` update is of.
pub(super) fn nth_of<K>(keys: &[K], nth: u64) -> &K {
    let turn = nth % keys.len() as u64;
    &keys[usize::try_from(turn).expect("less than the keys there are")]
}

/// Without the pages of the program itself, which are read as code is first run.
fn resident_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("/proc/self/status without RssAnon"))
}

/// Updates that a subscriber may be behind, at both servers: this project's default.
pub(super) const RING_CAPACITY: usize = 128;
/// Further than this, a saturating publisher waits.
const BEHIND: u64 = 64;
const BURST: usize = 32;
const PAUSE: Duration = Duration::from_micros(100);
/// How often is looked whether all is delivered; at ours, that takes a moment for each stream.
const LOOK: Duration = Duration::from_millis(10);
const PATIENCE_NS: u64 = 2_000_000_000;
const QUIET: Duration = Duration::from_millis(300);
const SETTLE: Duration = Duration::from_millis(100);
const CHANGING: u64 = 16;
const SETTINGS: usize = 350 - 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishing takes 100 µs of its thread's time.
    #[derive(Default)]
    struct Laborious {
        spent_ns: AtomicU64,
    }

    impl Service for Laborious {
        fn serve_connection(&self, _: Socket) {
            unreachable!("nobody connects");
        }

        fn publish(&self, _: u64, _: u64) {
            let begun = thread_cpu_ns();
            while thread_cpu_ns() < begun + 100_000 {}
            let spent = thread_cpu_ns() - begun;
            self.spent_ns.fetch_add(spent, Ordering::Relaxed);
        }

        fn slowest_lag(&self) -> u64 {
            0
        }
    }

    #[test]
    fn what_pauses_take_is_not_the_servers_and_what_publishing_takes_is_not_the_pauses() {
        let (service, writes) = (Laborious::default(), AtomicU64::new(0));
        let publishing = Publishing {
            service: &service,
            writes: &writes,
            pauses_ns: Cell::new(0),
        };
        for _ in 0..2 {
            service.spent_ns.store(0, Ordering::Relaxed);
            let (process, thread) = (cpu_ns(), thread_cpu_ns());
            let published = publishing.paced(100, 1_000_000);
            let (process, thread) = (cpu_ns() - process, thread_cpu_ns() - thread);
            let spent = service.spent_ns.load(Ordering::Relaxed);
            assert!(published.pauses_ns > 0);
            assert!(published.pauses_ns + spent <= thread, "{published:?}");
            assert!(published.cpu_ns >= spent, "{published:?}");
            assert!(
                published.cpu_ns + published.pauses_ns <= process,
                "{published:?}"
            );
        }
    }
}
