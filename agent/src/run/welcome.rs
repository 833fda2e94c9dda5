//! What an agent says once it serves.

use super::{Agent, Options};
use crate::log;
use crate::narration::say;

impl Agent {
    /// Says that it serves, and where.
    pub(super) fn announce(&self, options: &Options) {
        let listening = self.listening.join(", ");
        if log::is_for_people() {
            say(format_args!("{}", self.welcome(options, &listening)));
        } else {
            let head = self.engine.head();
            tracing::info!(
                version = env!("CARGO_PKG_VERSION"),
                http = self.http_address,
                run_dir = %self.run_dir.path().display(),
                sequence = head.sequence().get(),
                "streaming {} settings on {listening}",
                head.state().resolved().len()
            );
        }
    }

    /// What to tell a person at the start: where it is, and what to type next.
    fn welcome(&self, options: &Options, listening: &str) -> String {
        let program = quote(&options.program);
        let run_dir = match &options.run_dir {
            Some(dir) => format!(" --run-dir {}", quote(&dir.display().to_string())),
            None => String::new(),
        };
        format!(
            "configstream {version} streams {settings} settings on {listening}\n\
             status, health and metrics: http://{http}/status /healthz /readyz /metrics\n\
             status page: http://{http}/\n\
             certificate, token and sequence: {dir}\n\
             \n\
             To see the stream, type in a second terminal:\n\
             \n    {program} watch{run_dir}\n\
             \n\
             and in a third, to change something:\n\
             \n    {program} set log_level debug{run_dir}\n",
            version = env!("CARGO_PKG_VERSION"),
            settings = self.engine.head().state().resolved().len(),
            http = self.http_address,
            dir = self.run_dir.path().display(),
        )
    }
}

/// A word as a shell reads it.
pub(crate) fn quote(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
