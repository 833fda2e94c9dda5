// Shows /status, and looks again every second. Whatever comes from the agent is text: it only ever becomes text nodes and
// attributes that cannot run.

const INTERVAL_MS = 1000;
const PATIENCE_MS = 8000;
const MOST_AGENTS = 100;

/// What is known: the last answer and when it came, by this page's own clock.
let status = null;
let received = 0;
/// The newest version of the answer before: who has not got that one is behind for longer than an instant.
let earlier = null;
/// When the connection was lost, and how; null while it holds.
let lost = null;

async function poll() {
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const answer = await fetch(`status?agents=${MOST_AGENTS}`, { cache: "no-store", signal });
    if (!answer.ok) throw new Error(`it answered ${answer.status}: ${(await answer.text()).trim()}`);
    const next = await answer.json();
    // An agent of another version may have another page.
    if (status && status.version !== next.version) location.reload();
    earlier = status && status.head.epoch === next.head.epoch ? status.head : null;
    status = next;
    received = performance.now();
    lost = null;
  } catch (error) {
    const why = { TimeoutError: "it does not answer in time", TypeError: "it cannot be reached" }[error.name] ?? error.message;
    lost = { since: lost?.since ?? performance.now(), why };
  }
  show();
}

/// Hidden pages do not look, so that a forgotten tab costs nothing; one that comes to be seen looks at once.
async function run() {
  document.getElementById("connection").textContent = "Connecting…";
  let wake = () => {};
  document.addEventListener("visibilitychange", () => wake());
  for (;;) {
    try {
      if (!document.hidden) await poll();
    } catch (error) {
      const connection = document.getElementById("connection");
      connection.dataset.state = "failed";
      connection.textContent = `This page has failed: ${error.message}`;
    }
    await new Promise((resume) => { wake = resume; setTimeout(resume, INTERVAL_MS); });
  }
}

// --- What is to be seen ---

function show() {
  const connection = document.getElementById("connection");
  const state = lost ? "lost" : "live";
  if (connection.dataset.state !== state) {
    connection.dataset.state = state;
    connection.textContent = lost ? "Connection lost" : "Live";
  }
  const found = status ? troubles() : [];
  const problems = [...lostConnection(), ...found];
  // Of many tabs, which one is in trouble, and whose it is.
  document.title = (problems.length ? `(${problems.length}) ` : "") + (status ? `${status.origin} · ` : "") + "configstream";
  fill("verdict", problems.length
    ? problems.map((problem) => el("p", { class: "problem" }, ...problem))
    : [el("p", { class: "fine" }, "All is well: every source is in force, and every stream keeps up.")]);
  document.body.classList.toggle("stale", lost !== null);
  if (!status) return;
  // Read aloud when it changes, and so without the figures that change all the time.
  fill("announcement", [found.map(([headline]) => headline.textContent).join(". ") || "All is well"]);
  fill("identity", [`${status.origin} · version ${status.version} · process ${status.pid}`]);
  fill("content", [summary(), agents(), sources(), changes()]);
}

function lostConnection() {
  if (!lost) return [];
  const seen = status ? ["What is shown below is as of ", time(status.now), "."] : [];
  return [[
    strong("No connection to the agent"), ` for ${span((performance.now() - lost.since) / 1000)} (${lost.why}). `,
    "Trying again every second. ", ...seen, " If it stays so, start the agent: ", code("configstream run"),
  ]];
}

function troubles() {
  const found = [];
  if (!status.ready) found.push([strong("The agent shuts down."), " Streams are being ended."]);
  for (const source of status.sources.filter((source) => !source.healthy)) {
    found.push([
      strong(`The newest content of ${source.source} is refused`), " since ", time(source.failing_since),
      "; the last good content stays in force. ", code(source.error), ". Mend it: it is read again by itself.",
    ]);
  }
  for (const problem of status.problems) {
    found.push([strong("The agent is not well"), ": ", problem, "."]);
  }
  for (const { key, why, source, provenance } of status.refused_settings) {
    found.push([
      strong(`The value of ${key} is refused`), `: it has to be ${why}. The last good one stays in force. It is set by ${source}${provenance ? ` (${provenance})` : ""}.`,
    ]);
  }
  const behind = status.agents.filter((agent) => condition(agent).class === "bad");
  if (behind.length) {
    const worst = behind[0];
    const least = behind.length === status.agents.length && status.agents_total > behind.length ? "At least " : "";
    found.push([
      strong(`${least}${number(behind.length)} of ${count(status.agents_total, "remote agent")} behind`),
      ": ", el("bdi", {}, worst.display_name),
      worst.last_sequence_sent === null ? " waits for its first snapshot. " : ` by ${count(distance(worst), "update")}. `,
      "It does not take what its stream offers; once it does, it gets what it lacks, and need not be restarted.",
    ]);
  }
  return found;
}

function summary() {
  const server = status.server ?? { connections: 0, streams: 0, refused_handshakes: 0 };
  const started = before(status.uptime_seconds);
  return el("dl", { class: "summary" },
    figure("Sequence", number(status.head.sequence), `epoch ${status.head.epoch}`),
    figure("Settings", number(status.head.settings), `${count(status.changes_total, "change")} since the start`),
    figure("Remote agents", number(status.agents_total),
      `${count(server.streams, "stream")}, ${count(server.connections, "connection")}`),
    figure("Uptime", span(status.uptime_seconds), "since ", absolute(started)),
    figure("Waiting changes", number(status.queued_changes), "in the resolver's queue"),
    figure("Refused handshakes", number(server.refused_handshakes), "since the start"),
  );
}

function figure(name, value, ...note) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value), el("dd", { class: "note" }, ...note));
}

function agents() {
  const hidden = status.agents_total - status.agents.length;
  return section("agents", "Remote agents",
    hidden > 0 ? `The ${number(status.agents.length)} furthest behind; ${number(hidden)} more are not shown.` : "",
    table("agents", [
      ["Agent"], ["State"], ["Sequence", "number"], ["Lag, updates", "number"], ["Dropped, updates", "number"],
      ["Resyncs", "number"], ["Streams", "number"], ["Registered"], ["Last sign of life"],
    ], status.agents.map((agent) => {
      const state = condition(agent);
      const kind = [agent.flavor, agent.pid && `process ${agent.pid}`].filter(Boolean).join(", ");
      return { class: state.class, cells: [
        [el("b", { class: "clamped", title: agent.display_name }, el("bdi", {}, agent.display_name)),
          kind ? el("small", { class: "clamped", title: kind }, el("bdi", {}, kind)) : ""],
        [el("span", { class: `badge ${state.class}`, title: state.meaning }, state.name)],
        [agent.last_sequence_sent === null ? "none yet" : number(agent.last_sequence_sent)],
        [number(distance(agent))], [number(agent.dropped)], [number(agent.resyncs)], [number(agent.streams)],
        [moment(before(agent.age_seconds))], [moment(before(agent.idle_seconds))],
      ] };
    }), ["No remote agent is registered. To be one, type ", code("configstream watch"),
      " on this machine (with ", code("--run-dir DIR"), " if the agent was started with one)."]));
}

/// The state of a remote agent, in words. Under load everybody is behind for an instant, so what counts is who has not got
/// what was there at the last look.
function condition(agent) {
  const handed = agent.last_sequence_sent;
  const late = earlier && handed !== null ? handed < earlier.sequence : agent.lag > 0;
  if (agent.streams === 0) {
    return { name: "no stream", class: "idle", meaning: "it has ended, or is on its way back, or has not subscribed yet; it goes after the idle timeout" };
  }
  if (handed === null) {
    return { name: "starting", class: agent.age_seconds > 5 ? "bad" : "idle", meaning: "it has not taken its first snapshot" };
  }
  if (late && agent.lagging) {
    return { name: "lagging", class: "bad", meaning: "its buffer has overflowed; it will be sent a snapshot once it reads" };
  }
  if (late) {
    return { name: "behind", class: "bad", meaning: "it has not taken what was published over a second ago" };
  }
  return { name: "current", class: "good", meaning: "it has been handed everything that was published" };
}

/// How many updates an agent has not been handed.
function distance(agent) {
  if (agent.streams === 0) return 0;
  return Math.max(agent.lag, status.head.sequence - (agent.last_sequence_sent ?? status.head.sequence), 0);
}

function changes() {
  const older = status.changes_total - status.recent_changes.length;
  return section("changes", "Recent changes",
    older > 0 ? `The latest ${number(status.recent_changes.length)} of ${number(status.changes_total)}.` : "",
    table("changes", [["When"], ["Sequence", "number"], ["Setting"], ["Change"], ["Source that wins"]],
      status.recent_changes.map((change) => ({ class: age(change.at) < 3 ? "fresh" : "", cells: [
        [moment(change.at)],
        [change.exact ? "" : "up to ", number(change.sequence)],
        [el("code", { class: "clamped", title: change.key }, change.key)],
        [el("span", { class: `badge ${change.change}` }, change.change),
          change.unset_source ? el("small", {}, `from ${change.unset_source}`) : ""],
        [change.change === "vanished" ? `none; ${change.source} held it last` : change.source],
      ] })), ["Nothing has changed since the start. To change something, type ", code("configstream set log_level debug"), "."]));
}

function sources() {
  return section("sources", "Sources", "Lowest precedence first: of two that hold a key, the later one wins.",
    table("sources", [["Source"], ["Reads", "wide"], ["State"], ["Settings", "number"], ["Loads", "number"], ["Last load"],
      ["Failures", "number"], ["Last error", "wide"]],
    status.sources.map((source) => ({ class: source.healthy ? "" : "bad", cells: [
      [el("b", {}, source.source)],
      [code(source.detail)],
      [el("span", { class: `badge ${source.healthy ? "good" : "bad"}` }, source.healthy ? "in force" : "refused")],
      [number(source.settings)],
      [number(source.loads)],
      [source.loaded_at ? moment(source.loaded_at) : "never"],
      [number(source.failures)],
      source.last_error_at ? [moment(source.last_error_at), el("small", {}, source.last_error)] : ["none"],
    ] })), ["There are none."]));
}

// --- How it is written ---

function section(id, title, note, ...content) {
  return el("section", { "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title), note ? el("p", { class: "note" }, note) : "", ...content);
}

/// A table; on narrow screens each row is a card, so roles and labels are given expressly.
function table(id, heads, rows, empty) {
  if (rows.length === 0) return el("p", { class: "empty" }, ...empty);
  const head = heads.map(([name, kind]) => el("th", { scope: "col", role: "columnheader", class: kind ?? "" }, name));
  const body = rows.map((row) => el("tr", { role: "row", class: row.class }, ...row.cells.map((content, column) => {
    const [name, kind] = heads[column];
    return el("td", { role: "cell", class: kind ?? "", "data-label": name }, el("span", {}, ...content));
  })));
  return el("table", { role: "table", "aria-labelledby": `${id}-title` },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)),
    el("tbody", { role: "rowgroup" }, ...body));
}

function strong(text) { return el("strong", {}, text); }
function code(text) { return el("code", {}, text); }

function number(value) { return value.toLocaleString("en"); }
function count(value, unit) { return `${number(value)} ${unit}${value === 1 ? "" : "s"}`; }

/// A span of time in its two greatest units.
function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = Math.max(0, units.findIndex(([length]) => whole >= length));
  if (whole === 0) return "0 s";
  return units.slice(first, first + 2)
    .map(([length, unit], place) => [Math.floor((place ? whole % units[first][0] : whole) / length), unit])
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount} ${unit}`).join(" ");
}

/// What time it is for the agent, whose clock may differ from this one's.
function now() { return Date.parse(status.now) + performance.now() - received; }
function age(at) { return (now() - Date.parse(at)) / 1000; }
function before(seconds) { return new Date(Date.parse(status.now) - seconds * 1000).toISOString(); }
function ago(seconds) { return seconds < 2 ? "now" : `${span(seconds)} ago`; }

/// A moment, absolute and relative: in a sentence, and in two lines of a cell.
function time(at) { return el("span", { class: "time" }, absolute(at), ` (${ago(age(at))})`); }
function moment(at) { return el("span", { class: "time" }, absolute(at), el("small", {}, ago(age(at)))); }
function absolute(at) {
  const [date, clock] = new Date(at).toISOString().slice(0, 19).split("T");
  const today = status.now.startsWith(date);
  return el("time", { datetime: at, title: `${new Date(at).toLocaleString()} on your clock` },
    `${today ? "" : `${date} `}${clock} UTC`);
}

function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== "") element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== ""));
  return element;
}

function fill(id, children) {
  const old = document.getElementById(id);
  const fresh = old.cloneNode(false);
  fresh.append(...children);
  adjust(old, fresh);
}

/// Makes a node like another one, and touches only what differs: focus, selection and place survive, and a screen reader
/// hears only of what is new.
function adjust(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return undefined;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const olds = [...old.childNodes];
  const news = [...fresh.childNodes];
  news.forEach((node, place) => (place < olds.length ? adjust(olds[place], node) : old.append(node)));
  olds.slice(news.length).forEach((node) => node.remove());
  return undefined;
}

run();
