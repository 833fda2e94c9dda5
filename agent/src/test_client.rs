//! `config-stream-client`: the documented test client. It registers, streams for a while, prints what comes, and
//! judges.
//!
//! Good (exit code 0) is a snapshot first, and then every update with exactly the sequence that follows. Not good
//! (exit code 1) is a set-up that fails, no snapshot, an update out of order, or a gap. It never refreshes its
//! session: an open stream counts as life.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use configstream_engine::settings::Setting;
use configstream_grpc::{
    Address, Client, ConfigEvent, ConfigSnapshot, ConfigUpdate, Connector, Events, Identity,
    Registration, StreamError, Token,
};
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use crate::cli::{Color, Output, Target};
use crate::credentials;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::json;
use crate::listen;
use crate::narration::{complain, say};
use crate::secrets::{SECRET_KEYS, Secrets};

/// The command line of `config-stream-client`.
#[derive(Debug, Parser)]
#[command(
    name = "config-stream-client",
    version,
    about = "Streams an agent's configuration for a while and checks that it comes as it should.",
    after_help = "Exit codes: 0 snapshot first and every update in order; 1 set-up failed, no snapshot, out of order, or a gap; 2 usage.",
    max_term_width = 100
)]
struct Cli {
    /// Where the agent listens: HOST:PORT or unix:PATH.
    #[arg(long, default_value = "localhost:5001", value_parser = listen::parse)]
    ipc_address: Address,
    /// The token itself; wins over the file.
    #[arg(long, value_name = "TOKEN")]
    auth_token: Option<String>,
    /// The file that holds the token. Default: the one in the run directory.
    #[arg(long, value_name = "FILE")]
    agent_auth_token_file: Option<PathBuf>,
    /// The file that holds the certificate and its key. Default: the one in the run directory.
    #[arg(long, value_name = "FILE")]
    agent_cert_file: Option<PathBuf>,
    /// What to register and subscribe as.
    #[arg(long, default_value = "test-client")]
    name: String,
    /// How long to stream: 30s, 1m30s. A first snapshot is waited for longer while its bytes
    /// arrive.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// How many settings of a snapshot to print.
    #[arg(long, default_value_t = 5)]
    max_samples: usize,
}

/// Runs the program with these arguments.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments.into_iter().map(two_dashes)) {
        Ok(cli) => cli,
        Err(error) => {
            let code = error.exit_code();
            complain(&error);
            return if code == 0 {
                ExitCode::SUCCESS
            } else {
                Exit::Usage.into()
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::new(
                Exit::Failed,
                "cannot start",
                error,
                "free some threads or memory",
            )
            .report();
        }
    };
    match runtime.block_on(cli.execute()) {
        Ok(verdict) if verdict.is_good() => ExitCode::SUCCESS,
        Ok(_) => Exit::Failed.into(),
        Err(failure) => {
            say(format_args!("error: {failure}"));
            // Whatever kept it from being set up, the verdict is the same.
            Exit::Failed.into()
        }
    }
}

impl Cli {
    async fn execute(self) -> Result<Verdict, Failure> {
        let output = Output::new(false, Color::Auto);
        let end = Instant::now() + self.duration;
        let client = self.connect().await?;
        let mut registration = Registration::new(&self.name);
        registration.flavor = FLAVOR.to_owned();
        registration.pid = std::process::id().to_string();
        let refused = |what: &str, status: tonic::Status| {
            let mend = match status.code() {
                Code::Unauthenticated => "give the token of the agent at that address",
                _ => "see the agent's log",
            };
            let why = format_args!("{} ({:?})", status.message(), status.code());
            Failure::new(Exit::Failed, what, why, mend)
        };
        let session = client
            .register(&registration)
            .await
            .map_err(|status| refused("cannot register", status))?;
        output.line(&format!(
            "registered as {} (session_id={})",
            self.name, session.id
        ))?;
        let events = client
            .stream(&self.name, &session.id)
            .await
            .map_err(|status| refused("cannot open the stream", status))?;
        let mut verdict = Verdict::default();
        self.follow(events, end, output, &mut verdict).await?;
        verdict.print(output)?;
        Ok(verdict)
    }

    async fn connect(&self) -> Result<Client, Failure> {
        let dir = Target::new(None, None).run_dir();
        let place = |given: &Option<PathBuf>, name: &str| match given {
            Some(path) => Ok(path.clone()),
            None => dir.clone().map(|dir| dir.path().join(name)),
        };
        let certificate = place(&self.agent_cert_file, "ipc_cert.pem")?;
        let pem = credentials::read_certificate(&certificate, credentials::BY_PATH)?;
        let identity = Identity::from_pem(pem.as_bytes()).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("{} cannot be used", certificate.display()),
                error,
                "name the agent's with --agent-cert-file",
            )
        })?;
        let token = match &self.auth_token {
            Some(token) => token.trim().to_owned(),
            None => credentials::read_token(
                &place(&self.agent_auth_token_file, "auth_token")?,
                credentials::BY_PATH,
            )?,
        };
        let token = Token::parse(&token).map_err(|error| {
            Failure::new(
                Exit::Failed,
                "the token cannot be used",
                error,
                "give the agent's with --auth-token",
            )
        })?;
        let connector = Connector::new(self.ipc_address.clone(), &identity, token);
        connector.connect().await.map_err(|error| {
            let mend = if error.is_untrusted() {
                "give the certificate of the agent at that address with --agent-cert-file"
            } else {
                "start it with `configstream run`, or name it with --ipc-address"
            };
            Failure::new(Exit::Failed, "cannot reach the agent", error, mend)
        })
    }

    async fn follow(
        &self,
        mut events: Events,
        mut end: Instant,
        output: Output,
        verdict: &mut Verdict,
    ) -> Result<(), Failure> {
        let mut secrets = Secrets::known().clone();
        loop {
            match timeout_at(end, events.next()).await {
                // The snapshot is under way for as long as bytes arrive, on a slow link for
                // longer than the program was to stream.
                Err(_) if verdict.snapshots == 0 && events.silence() < self.duration => {
                    end = Instant::now() + (self.duration - events.silence());
                }
                Err(_) => return Ok(()),
                Ok(Ok(ConfigEvent::Snapshot(snapshot))) => {
                    verdict.snapshots += 1;
                    let mut settings = snapshot.settings.iter();
                    let list = settings.find(|setting| setting.key().as_str() == SECRET_KEYS);
                    secrets.follow_list(list.map(|setting| setting.value()));
                    self.show_snapshot(&snapshot, &secrets, output)?;
                }
                Ok(Ok(ConfigEvent::Update(update))) => {
                    verdict.updates += 1;
                    let setting = update.update.setting();
                    if setting.key().as_str() == SECRET_KEYS {
                        secrets.follow_list(Some(setting.value()));
                    }
                    show_update(&update, verdict.updates, &secrets, output)?;
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    say(format_args!("the stream ended: {error}"));
                    verdict.broken |=
                        !matches!(error, StreamError::Status(_) | StreamError::EndedQuietly);
                    return Ok(());
                }
            }
        }
    }

    fn show_snapshot(
        &self,
        snapshot: &ConfigSnapshot,
        secrets: &Secrets,
        output: Output,
    ) -> Result<(), Failure> {
        output.line(&format!(
            "✓ SNAPSHOT received (seq_id={}, settings={})",
            snapshot.sequence,
            snapshot.settings.len()
        ))?;
        snapshot
            .settings
            .iter()
            .take(self.max_samples)
            .try_for_each(|setting| {
                output.line(&format!(
                    "  {} = {} (source: {})",
                    setting.key(),
                    shown(setting, secrets),
                    setting.source()
                ))
            })
    }
}

/// The value of a setting, unless it is a secret.
fn shown(setting: &Setting, secrets: &Secrets) -> serde_json::Value {
    json::of(&secrets.shown(setting.key().as_str(), setting.value()))
}

fn show_update(
    update: &ConfigUpdate,
    number: u64,
    secrets: &Secrets,
    output: Output,
) -> Result<(), Failure> {
    let setting: &Setting = update.update.setting();
    output.line(&format!(
        "✓ UPDATE #{number} received (seq_id={})",
        update.sequence
    ))?;
    output.line(&format!("  key: {}", setting.key()))?;
    output.line(&format!("  value: {}", shown(setting, secrets)))?;
    output.line(&format!("  source: {}", setting.source()))
}

/// What the stream was like.
#[derive(Debug, Default)]
struct Verdict {
    snapshots: u64,
    updates: u64,
    /// An event came that must not come: an update first, out of order, or behind a gap.
    broken: bool,
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.snapshots > 0 && !self.broken
    }

    fn print(&self, output: Output) -> Result<(), Failure> {
        output.line("")?;
        output.line("Summary")?;
        output.line(&format!("  snapshots received: {}", self.snapshots))?;
        output.line(&format!("  updates received: {}", self.updates))?;
        output.line(match (self.is_good(), self.broken) {
            (true, _) => "  ✓ snapshot first, every update in order, no gap",
            (false, true) => "  ✗ the stream was out of order or had a gap",
            (false, false) => "  ✗ no snapshot came",
        })
    }
}

/// Go's programs take `-name` for `--name`; scripts written for those should work.
fn two_dashes(argument: OsString) -> OsString {
    let Some(text) = argument.to_str() else {
        return argument;
    };
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    let known = [
        "-ipc-address",
        "-auth-token",
        "-agent-auth-token-file",
        "-agent-cert-file",
        "-name",
        "-duration",
        "-max-samples",
    ];
    if known.contains(&name) {
        format!("-{text}").into()
    } else {
        argument
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text)
        .map_err(|error| format!("{error}; write a span of time such as 30s or 1m30s"))
}

const FLAVOR: &str = "config-stream-test-client";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_those_of_the_protocol() {
        let arguments = [
            "config-stream-client",
            "--ipc-address",
            "localhost:6001",
            "-auth-token=abc",
            "--agent-auth-token-file",
            "t",
            "-agent-cert-file",
            "c",
            "--name",
            "me",
            "-duration",
            "1m30s",
            "--max-samples=2",
        ];
        let cli =
            Cli::try_parse_from(arguments.map(|argument| two_dashes(argument.into()))).unwrap();
        assert_eq!(cli.ipc_address.to_string(), "localhost:6001");
        assert_eq!(cli.auth_token.as_deref(), Some("abc"));
        assert_eq!(
            (cli.agent_auth_token_file, cli.agent_cert_file),
            (Some("t".into()), Some("c".into()))
        );
        assert_eq!(
            (cli.name.as_str(), cli.duration, cli.max_samples),
            ("me", Duration::from_secs(90), 2)
        );
        let cli = Cli::try_parse_from(["config-stream-client"]).unwrap();
        assert_eq!(
            (cli.ipc_address.to_string().as_str(), cli.name.as_str()),
            ("localhost:5001", "test-client")
        );
        assert_eq!(
            (cli.duration, cli.max_samples),
            (Duration::from_secs(30), 5)
        );
    }

    #[test]
    fn the_verdict_needs_a_snapshot_and_order() {
        let verdict = |snapshots, broken| {
            Verdict {
                snapshots,
                updates: 0,
                broken,
            }
            .is_good()
        };
        assert!(verdict(1, false));
        assert!(!verdict(0, false) && !verdict(1, true));
    }
}
