//! What is logged, for tests that read it.

use std::io;
use std::sync::{Arc, Mutex, Once};
use std::time::Instant;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Writes down what this thread logs: a test runs on one, and so does its server.
    pub fn install(&self) -> tracing::subscriber::DefaultGuard {
        // Whether anybody wants a line is asked once for all threads, and of the thread that comes to it first when there is
        // but one subscriber. So that a test beside, which logs nowhere, does not answer no for this one, all want it.
        static EVERYWHERE: Once = Once::new();
        EVERYWHERE.call_once(|| {
            let nowhere = tracing_subscriber::registry().with(LevelFilter::INFO);
            tracing::subscriber::set_global_default(nowhere).unwrap();
        });
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(self.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// Ten lines a second that say so, however long it took, and one at least.
    pub fn demand_few(&self, what: &str, begun: Instant) {
        self.demand_at_most(10, what, begun);
    }

    /// So many lines a second.
    pub fn demand_at_most(&self, per_second: u64, what: &str, begun: Instant) {
        let lines = self.text().matches(what).count();
        let most = per_second * (begun.elapsed().as_secs() + 1);
        assert!((1..=most).contains(&(lines as u64)), "{lines} of {most}");
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        configstream_grpc::lock::assert_none_held();
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
