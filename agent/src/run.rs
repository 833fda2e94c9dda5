//! The core agent: everything put together, from the first check to a clean stop.
//!
//! Nothing is written before everything that can be refused has been looked at: a start that fails spends no sequence.

mod layers;
mod signals;
mod upkeep;
mod welcome;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use configstream_engine::Engine;
use configstream_engine::settings::Settings;
use configstream_grpc::{Address, Identity, Listener, Server, ServerHandle, Token};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::layers::{Layers, restore};
use self::signals::Signals;
use self::upkeep::{Keeper, Seen, Upkeep};
use crate::backend::Backend;
use crate::credentials::Credentials;
use crate::exit::{Exit, Failure};
use crate::granted::{OwnSettings, RefusedSettings, follow};
use crate::http;
use crate::known::Known;
use crate::listen::{self, Bound, SocketFile};
use crate::open_files;
use crate::persisted::{PersistError, Persisted};
use crate::problems::Problems;
use crate::recent::RecentChanges;
use crate::resolver::Resolver;
use crate::run_dir::{RunDir, RunDirLock};
use crate::sequence_file::{SequenceFile, SequenceFileError};
use crate::service_manager::ServiceManager;
use crate::sources::file::FileSource;
use crate::status::StatusSource;
use crate::telemetry;

pub(crate) use self::welcome::quote;

/// How long a clean stop may take before it is cut short.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// How much of that is for streams, and then for HTTP: peers may use it all up, and there is enough left for the disk.
const STREAMS_DEADLINE: Duration = Duration::from_secs(3);
const HTTP_DEADLINE: Duration = Duration::from_millis(500);
const _: () = assert!(
    STREAMS_DEADLINE.as_millis() + HTTP_DEADLINE.as_millis() + 1_000
        <= SHUTDOWN_DEADLINE.as_millis()
);

/// After how many turns of tasks a thread looks which sockets have something, if there is always a
/// task to run. Where peers flood their connections, a request of another one waits that long to be
/// seen at all: with tokio's 61, a fifth of a second.
const TURNS_PER_LOOK: u32 = 8;

/// How an agent is to run.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "programs build it")]
pub struct Options {
    /// Configuration files and folders of them, in order; the later one wins. None: the embedded example alone.
    pub files: Vec<PathBuf>,
    /// The run directory; none means the user's own.
    pub run_dir: Option<PathBuf>,
    /// Where to listen for gRPC.
    pub listen: Vec<Address>,
    /// Where to listen for HTTP.
    pub http: String,
    /// What the names of environment variables start with.
    pub env_prefix: String,
    /// `key=value` of the command line.
    pub set: Vec<String>,
    /// How this program was called, for the hint about what to type next.
    pub program: String,
}

/// Runs an agent until it is told to stop. SIGTERM and SIGINT stop it cleanly, SIGHUP reloads the files.
///
/// # Errors
///
/// It could not start, or did not stop in time. Each kind has its exit code.
pub fn run(options: &Options) -> Result<(), Failure> {
    open_files::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(TURNS_PER_LOOK)
        .build()
        .map_err(|error| {
            Failure::new(
                Exit::Failed,
                "cannot start",
                error,
                "free some threads or memory",
            )
        })?;
    let result = runtime.block_on(async {
        // Signals first: one that arrives during the start must not be the default one.
        let mut signals = Signals::install()?;
        let agent = Agent::start(options).await?;
        agent.announce(options);
        let mut manager = ServiceManager::from_environment();
        manager.ready(&agent.status_line());
        let status = agent.status.clone();
        manager.watch(agent.resolver.handle(), move || status.line());
        signals.until_stop(&agent, &manager).await;
        let asked = Instant::now();
        manager.stopping();
        // A second signal means: now.
        let stopped = tokio::select! {
            stopped = agent.stop() => stopped,
            () = signals.second(asked) => Err(Failure::new(
                Exit::Failed,
                "stopped at once",
                "a second signal came before the clean stop was done",
                "nothing: what was reserved on disk is skipped at the next start",
            )),
        };
        manager.close().await;
        stopped
    });
    // Tasks that still wait for a slow peer are dropped.
    runtime.shutdown_background();
    result
}

/// A running agent.
#[must_use = "an agent is stopped by `stop`"]
pub struct Agent {
    engine: Engine<Settings>,
    addresses: Vec<Address>,
    /// As they are bound, for people: an address for tools is one that they can reach.
    listening: Vec<String>,
    http_address: String,
    server: ServerHandle<Settings>,
    stopping: watch::Sender<bool>,
    http_stop: watch::Sender<bool>,
    http: tokio::task::JoinHandle<()>,
    files: Option<FileSource>,
    resolver: Resolver,
    status: Arc<StatusSource>,
    run_dir: RunDir,
    upkeep: Upkeep,
    _sockets: Vec<SocketFile>,
    _lock: RunDirLock,
}

impl Agent {
    /// Starts an agent on the current runtime.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from starting, with an exit code of its own.
    pub async fn start(options: &Options) -> Result<Self, Failure> {
        let started = Instant::now();
        let known = Known::embedded();
        let layers = Layers::gather(options, known)?;
        let state = layers.resolve()?;
        let mut own = OwnSettings::at_start(&state)?;

        let run_dir = RunDir::locate(options.run_dir.as_deref())?;
        run_dir.create(options.run_dir.is_some())?;
        let lock = run_dir.lock()?;
        let mut bound = Vec::new();
        for address in &options.listen {
            bound.push(listen::listen(address).await?);
        }
        let http_listener = listen_http(&options.http).await?;
        let metrics = telemetry::install()?;
        // Only under the lock does nobody else change it.
        let persisted = Persisted::open_claimed(&run_dir.persisted(), lock.claim())
            .map_err(refuse_persisted)?;
        let state = restore(&state, &persisted)?;
        // What persists was taken at run time, where a bad value is told and not taken: no reason not to start.
        own.take(&state);
        own.begin();
        // Before they are read: what changes from here on is seen.
        let seen = Seen::now(&run_dir);
        let credentials = Credentials::open_or_create(&run_dir)?;
        let (identity, token) = trust(&run_dir, &credentials)?;

        let saved = SequenceFile::open_claimed(&run_dir.sequence(), lock.claim())
            .map_err(refuse_sequence)?;
        let engine = Engine::builder(state)
            .start_at(saved.epoch(), saved.start())
            .sequence_limit(saved.limit())
            .build()
            .map_err(|error| Failure::new(Exit::Failed, "cannot start the engine", error, ""))?;
        let no_thread = |error: std::io::Error| {
            Failure::new(Exit::Failed, "cannot start a thread", error, "free some")
        };
        let resolver = Resolver::start_persisting(engine.clone(), saved, persisted);
        let resolver = resolver.map_err(no_thread)?;

        let origin = layers.origin(options);
        let (sources, file_report) = layers.reports(options);
        let (stopping, told_to_stop) = watch::channel(false);
        let mut status = StatusSource {
            engine: engine.clone(),
            origin: origin.clone(),
            started,
            resolver: resolver.handle(),
            sources,
            refused: RefusedSettings::of(&own),
            problems: Problems::default(),
            server: None,
            recent: RecentChanges::follow(&engine),
            stopping: told_to_stop,
        };
        let backend = Backend {
            engine: engine.clone(),
            known,
            resolver: resolver.handle(),
            status: status.clone(),
        };
        let granted = own.granted();
        let server = Server::builder(engine.clone(), identity, token)
            .origin(origin)
            .hostname(hostname())
            .sessions(granted.sessions)
            .limits(granted.limits)
            .admin(Arc::new(backend))
            .build();
        let addresses: Vec<Address> = bound
            .iter()
            .map(Bound::address)
            .collect::<Result<_, _>>()
            .map_err(|error| {
                Failure::new(
                    Exit::Listen,
                    "cannot tell where this agent listens",
                    error,
                    "",
                )
            })?;
        let listening = bound.iter().map(Bound::shown).collect();
        bound.iter().for_each(Bound::warn_if_open);
        let mut sockets = Vec::new();
        let server = server.serve(bound.into_iter().map(|bound| match bound {
            Bound::Tcp(listener) => Listener::from(listener),
            Bound::Unix(listener, file) => {
                sockets.push(file);
                Listener::from(listener)
            }
        }));
        let refused = status.refused.clone();
        tokio::spawn(follow(engine.clone(), server.bounds(), own, refused));
        status.server = Some(server.observer());
        let status = Arc::new(status);

        let (http_stop, stopped) = watch::channel(false);
        let http_address = http_listener
            .local_addr()
            .map_or_else(|_| options.http.clone(), |address| address.to_string());
        let hosts = http::Hosts::of(&http_listener, &options.http);
        let app = http::router(status.clone(), metrics, hosts);
        let grants = http::Grants {
            descriptors: open_files::for_http(),
            ..http::Grants::default()
        };
        let http = tokio::spawn(http::serve(http_listener, app, grants, flagged(stopped)));

        let files = match options.files.as_slice() {
            [] => {
                // Nothing can go wrong with files that are not there.
                ::metrics::gauge!("configstream_file_healthy").set(1.0);
                None
            }
            files => Some(
                FileSource::start(files.to_vec(), known, resolver.handle(), file_report)
                    .map_err(no_thread)?,
            ),
        };
        if let Some(address) = addresses.first()
            && let Err(error) = run_dir.announce_address(&address.to_string(), lock.claim())
        {
            tracing::warn!(
                "cannot write {}: {error}; tools need --address",
                run_dir.address().display()
            );
        }
        let upkeep = Upkeep::start(Keeper {
            run_dir: run_dir.clone(),
            claim: lock.claim().clone(),
            server: server.credentials(),
            problems: status.problems.clone(),
            seen,
        });
        let upkeep = upkeep.map_err(no_thread)?;
        Ok(Self {
            engine,
            addresses,
            listening,
            http_address,
            server,
            stopping,
            http_stop,
            http,
            files,
            resolver,
            status,
            run_dir,
            upkeep,
            _sockets: sockets,
            _lock: lock,
        })
    }

    /// Where it listens for gRPC.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Where it listens for HTTP.
    #[must_use]
    pub fn http_address(&self) -> &str {
        &self.http_address
    }

    /// The engine it publishes through.
    #[must_use]
    pub fn engine(&self) -> &Engine<Settings> {
        &self.engine
    }

    /// How it is doing, in a line.
    fn status_line(&self) -> String {
        self.status.line()
    }

    /// Reads certificate, token and configuration files again, and returns once it is decided what
    /// came of it; the log says what.
    pub async fn reload(&self) {
        self.upkeep.look().await;
        match &self.files {
            // Fails only if the agent stops meanwhile.
            Some(files) => drop(files.reload().await),
            None => tracing::info!("nothing to reload: there is no configuration file"),
        }
    }

    /// Stops: streams are told, changes under way are finished, and the exact sequence is saved.
    ///
    /// # Errors
    ///
    /// It took longer than [`SHUTDOWN_DEADLINE`], or the sequence could not be saved. Neither loses anything.
    pub async fn stop(self) -> Result<(), Failure> {
        let Self {
            engine,
            server,
            stopping,
            http_stop,
            http,
            files,
            resolver,
            upkeep,
            ..
        } = self;
        let all = async {
            // Files and HTTP are quick; streams get most of the time. Meanwhile HTTP says that the agent is not ready.
            let _ = stopping.send(true);
            let last = tokio::task::spawn_blocking(move || {
                drop((files, upkeep));
                resolver.stop()
            });
            server.shutdown(STREAMS_DEADLINE).await;
            let saved = last.await.ok().flatten();
            engine.close();
            let _ = http_stop.send(true);
            if tokio::time::timeout(HTTP_DEADLINE, http).await.is_err() {
                tracing::warn!("HTTP connections that did not finish in time are cut");
            }
            match saved {
                Some(saved) => saved
                    .save_exact(engine.head().sequence())
                    .map_err(refuse_sequence),
                None => Err(Failure::new(
                    Exit::Failed,
                    "the resolver failed",
                    "its thread has panicked",
                    "report this",
                )),
            }
        };
        tokio::time::timeout(SHUTDOWN_DEADLINE, all)
            .await
            .unwrap_or_else(|_| {
                Err(Failure::new(
                    Exit::Failed,
                    format!("the stop took longer than {SHUTDOWN_DEADLINE:?} and was cut short"),
                    "something did not let go in time",
                    "nothing: what was reserved on disk is skipped at the next start",
                ))
            })
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Agent")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

async fn listen_http(address: &str) -> Result<TcpListener, Failure> {
    let refused =
        |error: &std::io::Error| listen::refused(&Address::Tcp(address.to_owned()), error);
    TcpListener::bind(address)
        .await
        .map_err(|error| refused(&error))
}

/// What the server needs of the credentials.
pub(crate) fn trust(dir: &RunDir, credentials: &Credentials) -> Result<(Identity, Token), Failure> {
    let refuse = |path: PathBuf, why: String| {
        Failure::new(
            Exit::Credentials,
            format!("{} cannot be used", path.display()),
            why,
            "restore it; or stop the agent, remove the file, and start again",
        )
    };
    let identity = Identity::from_pem(credentials.pem().as_bytes())
        .map_err(|error| refuse(dir.certificate(), error.to_string()))?;
    let token = Token::parse(credentials.token())
        .map_err(|error| refuse(dir.token(), error.to_string()))?;
    Ok((identity, token))
}

fn refuse_persisted(error: PersistError) -> Failure {
    Failure::new(
        Exit::RunDir,
        "the persisted changes cannot be used",
        &error,
        error.mend(),
    )
}

fn refuse_sequence(error: SequenceFileError) -> Failure {
    Failure::new(
        Exit::Sequence,
        "the sequence cannot be kept",
        &error,
        error.mend(),
    )
}

/// Waits for a flag to rise, or for whoever could raise it to be gone.
async fn flagged(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|raised| *raised).await;
}

/// The name of this machine, for `GetHostname`.
fn hostname() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
