//! What fuzz targets call: behind the feature `internals`, and without any promise.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use configstream_engine::Engine;
use configstream_engine::settings::Settings;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::atomic_file;
use crate::backend::Backend;
use crate::granted::{OwnSettings, RefusedSettings};
use crate::http::{self, Hosts};
use crate::known::Known;
use crate::persisted::{self, Persisted};
use crate::recent::RecentChanges;
use crate::resolver::Resolver;
use crate::sequence_file::{self, SequenceFile};
use crate::status::StatusSource;

/// Reads a sequence file, and gives what would be written for what was read.
///
/// # Errors
/// Why the file is refused.
pub fn sequence_file(bytes: &[u8]) -> Result<String, &'static str> {
    sequence_file::parse(bytes).map(|(epoch, used)| sequence_file::render(epoch, used))
}

/// Reads a file of persisted changes, and gives what would be written for what was read.
///
/// # Errors
/// Why the file is refused.
pub fn persisted_file(bytes: &[u8]) -> Result<String, &'static str> {
    persisted::rewritten(bytes)
}

/// A file of the run directory with this content, with the right checksum.
#[must_use]
pub fn sealed(content: &str) -> String {
    atomic_file::sealed(content)
}

/// The parts of an agent behind its two ports, without the ports.
#[derive(Debug)]
pub struct Host {
    /// What the sources publish through.
    pub engine: Engine<Settings>,
    /// What the administration service calls.
    pub backend: Arc<Backend>,
    /// What the HTTP port serves.
    pub pages: Router,
    resolver: Option<Resolver>,
}

impl Host {
    /// Starts the thread that publishes. Its files go into `directory`. Spawns onto the current
    /// tokio runtime.
    ///
    /// # Errors
    /// A file cannot be written, or there is no thread to be had.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let saved = SequenceFile::open(&directory.join("sequence"))?;
        let persisted = Persisted::open(&directory.join("persisted"))?;
        let own = OwnSettings::at_start(&Settings::new()).map_err(|failure| failure.to_string())?;
        let engine = Engine::builder(Settings::new())
            .start_at(saved.epoch(), saved.start())
            .sequence_limit(saved.limit())
            .build()?;
        let resolver = Resolver::start_persisting(engine.clone(), saved, persisted)?;
        let (_, stopping) = watch::channel(false);
        let status = StatusSource {
            engine: engine.clone(),
            origin: "fuzz.yaml".to_owned(),
            started: Instant::now(),
            resolver: resolver.handle(),
            sources: Vec::new(),
            refused: RefusedSettings::of(&own),
            problems: crate::problems::Problems::default(),
            server: None,
            recent: RecentChanges::follow(&engine),
            stopping,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        Ok(Self {
            pages: http::router(
                Arc::new(status.clone()),
                metrics,
                Hosts::of(&listener, "localhost:0"),
            ),
            backend: Arc::new(Backend {
                engine: engine.clone(),
                known: Known::embedded(),
                resolver: resolver.handle(),
                status,
            }),
            engine,
            resolver: Some(resolver),
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.engine.close();
        drop(self.resolver.take().map(Resolver::stop));
    }
}
