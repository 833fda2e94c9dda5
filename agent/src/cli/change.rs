//! The verbs that change a setting, and whether everybody has got the change.

use std::time::Duration;

use configstream_engine::settings::{Key, Source};
use configstream_engine::{Epoch, Sequence};
use configstream_grpc::Client;
use configstream_proto::configstream::admin::v1 as admin;
use serde_json::json;

use super::output::{Output, printable};
use super::target::{Target, refused};
use super::verbs::{agent_json, streams_table};
use crate::command_line;
use crate::exit::{Exit, Failure};
use crate::known::Known;

/// `configstream set`.
pub(super) async fn set(
    target: &Target,
    output: Output,
    source: Source,
    key: &Key,
    text: &str,
    wait: Option<Duration>,
) -> Result<(), Failure> {
    let what = format!("cannot set `{key}`");
    let value = command_line::value(Known::embedded(), key, text).map_err(|error| {
        let (why, mend) = error.rsplit_once("; ").unwrap_or((&error, ""));
        Failure::new(Exit::Refused, what.clone(), why, mend)
    })?;
    let client = target.connect().await?;
    let committed = client
        .set(source, key, &value, &who())
        .await
        .map_err(|status| refused(&what, &status))?;
    let done = format!("`{key}` is set in {source}");
    finish(&client, output, &committed, &done, wait).await
}

/// `configstream unset`.
pub(super) async fn unset(
    target: &Target,
    output: Output,
    source: Source,
    key: &Key,
    wait: Option<Duration>,
) -> Result<(), Failure> {
    let what = format!("cannot unset `{key}`");
    let client = target.connect().await?;
    let committed = client
        .unset(source, key, &who())
        .await
        .map_err(|status| refused(&what, &status))?;
    let done = format!("`{key}` is unset in {source}");
    finish(&client, output, &committed, &done, wait).await
}

/// Says what the change led to, once everybody has it or `wait` is over; at once without a `wait`.
async fn finish(
    client: &Client,
    output: Output,
    committed: &admin::Committed,
    done: &str,
    wait: Option<Duration>,
) -> Result<(), Failure> {
    let Some(wait) = wait else {
        return report(output, committed, done, None);
    };
    let (epoch, sequence) = (
        Epoch::new(committed.epoch),
        Sequence::new(committed.sequence),
    );
    let spread = client
        .wait_for_streams(epoch, sequence, wait)
        .await
        .map_err(|status| {
            let what = format!("{done}, but whether everybody has it is unknown");
            refused(&what, &status)
        })?;
    report(output, committed, done, Some(&spread))?;
    if spread.behind.is_empty() {
        return Ok(());
    }
    let lacking: usize = spread.behind.iter().map(|agent| agent.streams.len()).sum();
    let names: Vec<String> = spread
        .behind
        .iter()
        .map(|agent| printable(&agent.display_name))
        .collect();
    Err(Failure::new(
        Exit::Behind,
        format!(
            "{done}, but {lacking} of {} streams do not have it after {wait:?}",
            spread.passed + lacking as u64
        ),
        format_args!("they take nothing, or slowly: {}", names.join(", ")),
        "see how they get on with `configstream agents`; nothing has to be set again",
    ))
}

fn report(
    output: Output,
    committed: &admin::Committed,
    done: &str,
    spread: Option<&admin::WaitForStreamsResponse>,
) -> Result<(), Failure> {
    if output.is_json() {
        let mut object = json!({
            "epoch": committed.epoch,
            "sequence": committed.sequence,
            "updates": committed.updates,
            "needs_snapshot": committed.needs_snapshot,
        });
        if let Some(spread) = spread {
            object["passed"] = spread.passed.into();
            object["behind"] = spread.behind.iter().map(agent_json).collect();
        }
        return output.object(&object);
    }
    let effect = match (committed.updates, committed.needs_snapshot) {
        (_, true) => "it is in no layer any more, so every subscriber gets a snapshot".to_owned(),
        (0, false) => "nothing streams: what wins is the same as before".to_owned(),
        (1, false) => "one update streams".to_owned(),
        (updates, false) => format!("{updates} updates stream"),
    };
    let sequence = committed.sequence;
    output.line(&format!("{done}; {effect} (sequence {sequence})"))?;
    match spread {
        Some(spread) if spread.behind.is_empty() => output.line(&match spread.passed {
            0 => "no stream is open".to_owned(),
            1 => "the one open stream has it".to_owned(),
            passed => format!("all {passed} open streams have it"),
        }),
        Some(spread) => streams_table(output, &spread.behind),
        None => Ok(()),
    }
}

/// Who asks, for those who look at it later.
fn who() -> String {
    let user = ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    match user {
        Some(user) if !user.is_empty() => format!("{user}, with configstream"),
        _ => "configstream".to_owned(),
    }
}
