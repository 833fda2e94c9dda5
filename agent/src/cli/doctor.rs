//! `configstream doctor`: everything between a client and the agent, looked at step by step.

mod findings;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::json;

use self::findings::{
    clock, directory, port, running, session, takes_connections, validity, versions,
};
use super::output::Output;
use super::target::{Target, refused, unreachable};
use crate::credentials;
use crate::exit::{Exit, Failure};

/// Makes every check and says for each whether it is good. Ends with [`Exit::Failed`] if one is not.
pub(super) async fn doctor(target: &Target, output: Output) -> Result<ExitCode, Failure> {
    let mut report = Report { output, good: true };
    let dir = match target.run_dir() {
        Ok(dir) => dir,
        Err(failure) => {
            report.check("run directory", Err(failure))?;
            return Ok(Exit::Failed.into());
        }
    };
    report.check("run directory", directory(&dir))?;
    report.check(
        "certificate",
        credentials::read_certificate(&dir.certificate(), credentials::IN_RUN_DIR)
            .and_then(|pem| validity(&pem, SystemTime::now()))
            .map(|valid| format!("{}, {valid}", dir.certificate().display())),
    )?;
    report.check(
        "token",
        credentials::read_token(&dir.token(), credentials::IN_RUN_DIR)
            .map(|_| dir.token().display().to_string()),
    )?;
    report.check("agent runs", running(&dir))?;
    let connected = match target.connector() {
        Ok(connector) => Some(connector.connect().await),
        // Said above, where certificate and token are.
        Err(_) => None,
    };
    if let Ok(address) = target.address() {
        report.check(
            "port",
            match &connected {
                // A connection that only looks would be counted as a refused handshake.
                Some(Ok(_)) => Ok(takes_connections(&address)),
                _ => port(&address, PATIENCE).await,
            },
        )?;
        match &connected {
            Some(Ok(_)) => report.check("connection", Ok(address.to_string()))?,
            Some(Err(error)) => report.check("connection", Err(unreachable(error)))?,
            None => {}
        }
    }
    let Some(Ok(client)) = connected else {
        return Ok(report.verdict());
    };
    let status = match client.status().await {
        Ok(status) => status,
        Err(status) => {
            report.check(
                "answer",
                Err(refused("the agent does not answer as it should", &status)),
            )?;
            return Ok(report.verdict());
        }
    };
    report.check(
        "answer",
        Ok(format!(
            "version {}, sequence {}",
            status.version, status.sequence
        )),
    )?;
    report.check(
        "versions",
        versions(env!("CARGO_PKG_VERSION"), &status.version),
    )?;
    if let Some(now) = status.now {
        report.check("clock", clock(now, SystemTime::now()))?;
    }
    for problem in &status.problems {
        let (why, mend) = problem.split_once("; ").unwrap_or((problem, ""));
        let found = Failure::new(Exit::Failed, "the agent is not well", why, mend);
        report.check("agent", Err(found))?;
    }
    report.check("session", session(&client, PATIENCE).await)?;
    for source in &status.sources {
        let checked = if source.error.is_empty() {
            Ok(format!("{}, {} settings", source.detail, source.settings))
        } else {
            Err(Failure::new(
                Exit::Configuration,
                "its newest content is not in force",
                &source.error,
                "mend it; it is loaded again by itself",
            ))
        };
        report.check(&format!("layer {}", source.source), checked)?;
    }
    let streams = if status.caught_up {
        Ok(format!("{} of them, all caught up", status.streams))
    } else {
        Err(Failure::new(
            Exit::Failed,
            "a stream is behind",
            "its client does not read fast enough",
            "see which one with `configstream agents`",
        ))
    };
    report.check("streams", streams)?;
    Ok(report.verdict())
}

struct Report {
    output: Output,
    good: bool,
}

impl Report {
    fn check(&mut self, name: &str, result: Result<String, Failure>) -> Result<(), Failure> {
        self.good &= result.is_ok();
        if self.output.is_json() {
            let detail = match &result {
                Ok(detail) => detail.clone(),
                Err(failure) => failure.to_string(),
            };
            return self
                .output
                .object(&json!({ "check": name, "good": result.is_ok(), "detail": detail }));
        }
        match result {
            Ok(detail) => self.output.line(&format!(
                "{}  {}  {}",
                self.output.green("good"),
                self.output.bold(name),
                self.output.dim(&detail)
            )),
            Err(failure) => self.output.line(&format!(
                "{}   {}  {failure}",
                self.output.red("BAD"),
                self.output.bold(name)
            )),
        }
    }

    fn verdict(&self) -> ExitCode {
        if self.good {
            ExitCode::SUCCESS
        } else {
            Exit::Failed.into()
        }
    }
}

/// How long the agent may take to let a client in, and to send it the first snapshot.
const PATIENCE: Duration = Duration::from_secs(10);
