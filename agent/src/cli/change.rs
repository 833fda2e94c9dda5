//! The verbs that change a setting, and whether everybody has got the change.

use std::time::Duration;

use clap::Args;
use configstream_engine::settings::{Key, Source};
use configstream_engine::{Epoch, Sequence};
use configstream_grpc::{ChangeRequest, Client, Conditions, Edit, printable};
use configstream_proto::configstream::admin::v1 as admin;
use serde_json::{Value as Json, json};

use super::output::Output;
use super::shown::Shown;
use super::target::{Target, refused};
use super::verbs::{agent_json, streams_table};
use crate::command_line;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::known::Known;

/// What every verb that changes something takes.
#[derive(Clone, Debug, Args)]
pub(super) struct ChangeOptions {
    /// Wait until every open stream has been handed the change, at most so long (such as 5s); if one has not by then,
    /// name it and exit with 12.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Change it only if the setting (of a file: each of its settings) has not changed after this sequence, which `get`
    /// and `list` tell; otherwise exit with 13. Only what streams counts: a change in a layer beneath the one that wins
    /// is none.
    #[arg(long, value_name = "[EPOCH:]SEQUENCE", value_parser = parse_moment)]
    if_sequence: Option<Moment>,
    /// Change it only if nothing at all has changed after this sequence, which `status` tells; otherwise exit with 13.
    /// Here, too, only what streams counts.
    #[arg(long, value_name = "[EPOCH:]SEQUENCE", value_parser = parse_moment)]
    if_head: Option<Moment>,
    /// Keep the change over a restart of the agent.
    #[arg(long)]
    persist: bool,
}

/// A sequence, and the epoch that it counts in if that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    epoch: Option<u64>,
    sequence: u64,
}

impl ChangeOptions {
    pub(super) fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// The request to make these edits.
    pub(super) fn request(&self, edits: Vec<Edit>) -> Result<ChangeRequest, Failure> {
        let epochs = [self.if_sequence, self.if_head].map(|moment| moment.and_then(|at| at.epoch));
        if let [Some(one), Some(other)] = epochs
            && one != other
        {
            return Err(Failure::new(
                Exit::Usage,
                "the two conditions cannot both hold",
                format_args!("they name two epochs, {one} and {other}"),
                "take both sequences from the same answer of the agent",
            ));
        }
        let keys = match self.if_sequence {
            Some(at) => edits
                .iter()
                .map(|edit| (edit.key().clone(), Sequence::new(at.sequence)))
                .collect(),
            None => Vec::new(),
        };
        Ok(ChangeRequest {
            edits,
            conditions: Conditions {
                epoch: epochs.into_iter().flatten().next().map(Epoch::new),
                head: self.if_head.map(|at| Sequence::new(at.sequence)),
                keys,
            },
            requested_by: who(),
            persist: self.persist,
            dry_run: false,
        })
    }
}

/// `configstream set`.
pub(super) async fn set(
    target: &Target,
    output: Output,
    source: Source,
    key: Key,
    text: &str,
    options: &ChangeOptions,
) -> Result<(), Failure> {
    let what = format!("cannot set `{key}`");
    let value = command_line::value(Known::embedded(), &key, text).map_err(|error| {
        let (why, mend) = error.rsplit_once("; ").unwrap_or((&error, ""));
        Failure::new(Exit::Refused, what.clone(), why, mend)
    })?;
    let done = format!("`{key}` is set in {source}");
    let request = options.request(vec![Edit::Set { source, key, value }])?;
    let client = target.connect().await?;
    let reply = client.apply(&request).await;
    let reply = reply.map_err(|status| refused(&what, &status))?;
    finish(&client, output, &reply, &done, options.wait).await
}

/// `configstream unset`.
pub(super) async fn unset(
    target: &Target,
    output: Output,
    source: Source,
    key: Key,
    options: &ChangeOptions,
) -> Result<(), Failure> {
    let what = format!("cannot unset `{key}`");
    let done = format!("`{key}` is unset in {source}");
    let not_held = Failure::new(
        Exit::NotFound,
        what.clone(),
        format_args!("layer '{source}' does not hold the key '{key}'"),
        format!("see which layers hold it with `configstream explain {key}`"),
    );
    let request = options.request(vec![Edit::Unset { source, key }])?;
    let client = target.connect().await?;
    let reply = client.apply(&request).await;
    let reply = reply.map_err(|status| refused(&what, &status))?;
    // It may be in no layer any more, and yet come back with a restart.
    let persisted = reply
        .committed
        .as_ref()
        .is_some_and(|committed| committed.persisted);
    if reply.differences.is_empty() && !persisted {
        return Err(not_held);
    }
    finish(&client, output, &reply, &done, options.wait).await
}

/// Says what the change led to, once everybody has it or `wait` is over; at once without a `wait`.
pub(super) async fn finish(
    client: &Client,
    output: Output,
    reply: &admin::ApplyResponse,
    done: &str,
    wait: Option<Duration>,
) -> Result<(), Failure> {
    let committed = reply.committed.unwrap_or_default();
    let Some(wait) = wait else {
        return report(output, &committed, done, None);
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
    report(output, &committed, done, Some(&spread))?;
    if spread.behind.is_empty() {
        return Ok(());
    }
    let lacking: usize = spread.behind.iter().map(|agent| agent.streams.len()).sum();
    let names: Vec<String> = spread
        .behind
        .iter()
        .map(|agent| printable(&agent.display_name).into_owned())
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
        let mut object = committed_json(committed);
        if let Some(spread) = spread {
            object["passed"] = spread.passed.into();
            object["behind"] = spread.behind.iter().map(agent_json).collect();
        }
        return output.object(&object);
    }
    let sequence = committed.sequence;
    output.line(&format!(
        "{done}; {} (sequence {sequence})",
        effect(committed)
    ))?;
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

pub(super) fn committed_json(committed: &admin::Committed) -> Json {
    json!({
        "epoch": committed.epoch,
        "sequence": committed.sequence,
        "updates": committed.updates,
        "needs_snapshot": committed.needs_snapshot,
    })
}

fn effect(committed: &admin::Committed) -> String {
    match (committed.updates, committed.needs_snapshot) {
        (_, true) => {
            "a key is in no layer any more, so every subscriber gets a snapshot".to_owned()
        }
        (0, false) => "nothing streams: what wins is the same as before".to_owned(),
        (1, false) => "one update streams".to_owned(),
        (updates, false) => format!("{updates} updates stream"),
    }
}

/// What a change does to each key, a line each: `+` a new key, `-` one that is gone, `~` another value, `·` a change
/// beneath what wins.
pub(super) fn differences(
    output: Output,
    shown: &Shown,
    differences: &[admin::Difference],
) -> Result<(), Failure> {
    for difference in differences {
        let key = &difference.key;
        let text = |setting: &admin::Setting| {
            let value = printable(&shown.text(key, setting.value.as_ref())).into_owned();
            let source = output.dim(&format!("(source: {})", setting.source));
            format!("{value} {source}")
        };
        let name = output.bold(key);
        output.line(&match (&difference.before, &difference.after) {
            (None, Some(after)) => output.green(&format!("+ {name} = {}", text(after))),
            (Some(before), None) => output.red(&format!("- {name} = {}", text(before))),
            (Some(before), Some(after)) if difference.streams => {
                output.yellow(&format!("~ {name} = {} -> {}", text(before), text(after)))
            }
            (_, Some(wins)) => output.dim(&format!(
                "· {name} changes beneath what wins, {}",
                text(wins)
            )),
            (None, None) => continue,
        })?;
    }
    Ok(())
}

pub(super) fn difference_json(shown: &Shown, difference: &admin::Difference) -> Json {
    let setting = |setting: &Option<admin::Setting>| {
        setting.as_ref().map(|setting| {
            json!({
                "source": setting.source,
                "value": shown.json(&difference.key, setting.value.as_ref()),
            })
        })
    };
    json!({
        "key": difference.key,
        "before": setting(&difference.before),
        "after": setting(&difference.after),
        "streams": difference.streams,
    })
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

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text)
        .map_err(|error| format!("{error}; write a span of time such as 5s or 500ms"))
}

fn parse_moment(text: &str) -> Result<Moment, String> {
    let (epoch, sequence) = match text.split_once(':') {
        Some((epoch, sequence)) => (Some(epoch), sequence),
        None => (None, text),
    };
    let number = |text: &str| {
        text.parse::<u64>().map_err(|error| {
            format!(
                "{error}; write a sequence such as 57, or with its epoch, such as 1764000000000:57"
            )
        })
    };
    Ok(Moment {
        epoch: epoch.map(number).transpose()?,
        sequence: number(sequence)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_sequence_with_or_without_its_epoch() {
        let moment = |epoch, sequence| Ok(Moment { epoch, sequence });
        assert_eq!(parse_moment("57"), moment(None, 57));
        assert_eq!(parse_moment("3:57"), moment(Some(3), 57));
        for wrong in ["", ":5", "5:", "-1", "a", "1:2:3"] {
            let error = parse_moment(wrong).unwrap_err();
            assert!(error.contains("such as 57"), "{wrong}: {error}");
        }
    }
}
