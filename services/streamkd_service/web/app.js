// The page: reads /v1 with the user's token and follows /v1/stream. No library, no build step, no other host.
import { api, follow, getToken, pictureUrl, setToken } from "./api.js";

const POLL_MS = 2000;
const PICTURE_MS = 5000;
const EVENTS_SHOWN = 40;
const REFRESHES_SHOWN = 3;
const TONES = { online: "good", disabled: "idle", connecting: "warn", warming: "warn" };

const $ = (id) => document.getElementById(id);
const fresh = (id) => $(id).content.firstElementChild.cloneNode(true);
const cameras = new Map(); // id → { data, card }
const events = new Map(); // id → { data, row }
const refreshes = new Map(); // id → data
let session = null; // AbortController of everything that runs while signed in

const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const clock = (text) => new Date(text).toLocaleTimeString();

function showProblem(error) {
  $("problem").hidden = !error;
  $("problem").textContent = error ? error.message : "";
}

// --- cameras -------------------------------------------------------------------------------------------------------

function showCamera(data) {
  if (data.deleted) {
    cameras.get(data.id)?.card.remove();
    cameras.delete(data.id);
    return showCounts();
  }
  let known = cameras.get(data.id);
  if (!known) {
    known = { card: fresh("camera-card"), pictureAt: 0 };
    known.card.dataset.camera = data.id;
    cameras.set(data.id, known);
    $("cameras").append(known.card);
  }
  known.data = data;
  paintCamera(known.card, data);
  showCounts();
}

function paintCamera(card, data) {
  const status = data.status ?? { state: data.enabled ? "connecting" : "disabled" };
  const put = (selector, text) => { card.querySelector(selector).textContent = text; };
  card.dataset.tone = TONES[status.state] ?? "bad";
  put("h3", data.name || data.id);
  card.querySelector("h3").title = `${data.id} · ${data.url}`;
  put(".state", status.state.replace("_", " "));
  const again = status.next_attempt_in_s ? `next attempt in ${number(status.next_attempt_in_s, 0)}\u00a0s` : "";
  const size = status.width ? `${status.width}×${status.height} ${status.codec}` : "";
  const trouble = [status.detail, again].filter(Boolean).join(" · ");
  put(".detail", trouble || size);
  put(".fps", number(status.fps_analysed, 1));
  put(".latency", status.latency_ms == null ? "–" : `${number(status.latency_ms, 0)} ms`);
  put(".action", status.action || "score");
  put(".score", status.action ? number(status.action_score) : "–");
  put(".anomaly", number(status.anomaly_score));
  card.querySelector("meter").value = status.action_score ?? 0;
}

async function loadCameras(signal) {
  const list = await api("/v1/cameras", { signal });
  const ids = new Set(list.map((camera) => camera.id));
  for (const id of [...cameras.keys()]) if (!ids.has(id)) showCamera({ id, deleted: true });
  list.forEach(showCamera);
}

async function loadPictures(signal) {
  for (const [id, camera] of cameras) {
    const seen = camera.card.getBoundingClientRect();
    const visible = seen.bottom > 0 && seen.top < window.innerHeight;
    const live = camera.data.enabled && !["connecting", "backing_off"].includes(camera.data.status?.state);
    if (!visible || !live || Date.now() - camera.pictureAt < PICTURE_MS) continue;
    camera.pictureAt = Date.now();
    const picture = await pictureUrl(`/v1/cameras/${encodeURIComponent(id)}/snapshot.jpg`, signal);
    if (picture) setPicture(camera.card.querySelector("img"), picture, `What ${camera.data.name || id} sees`);
  }
}

function setPicture(image, url, words) {
  const old = image.src;
  image.src = url;
  image.alt = words;
  image.hidden = false;
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
}

function showCounts() {
  const online = [...cameras.values()].filter((camera) => camera.data.status?.state === "online").length;
  $("summary").textContent = `${online} of ${cameras.size} cameras online`;
  $("no-cameras").hidden = cameras.size > 0;
}

// --- events --------------------------------------------------------------------------------------------------------

function showEvent(data) {
  let known = events.get(data.id);
  if (data.deleted) {
    if (known) dropEvent(data.id);
    return;
  }
  if (known && known.data.revision > data.revision) return;
  if (!known) {
    known = { row: fresh("event-row"), pictured: -1 };
    wireEvent(known.row, data.id);
    events.set(data.id, known);
    placeEvent(known.row, data.start_utc);
  }
  known.data = data;
  paintEvent(known);
  $("no-events").hidden = events.size > 0;
  while (events.size > EVENTS_SHOWN) dropEvent($("events").lastElementChild.dataset.event);
}

function placeEvent(row, start) {
  row.dataset.start = start;
  const older = [...$("events").children].find((other) => other.dataset.start < start);
  $("events").insertBefore(row, older ?? null);
}

function dropEvent(id) {
  const { row } = events.get(id);
  const picture = row.querySelector("img").src;
  if (picture.startsWith("blob:")) URL.revokeObjectURL(picture);
  row.remove();
  events.delete(id);
}

function wireEvent(row, id) {
  row.dataset.event = id;
  const judge = async (verdict) => {
    const next = events.get(id).data.verdict === verdict ? null : verdict;
    try {
      showEvent(await api(`/v1/events/${encodeURIComponent(id)}`, { method: "PATCH", body: { verdict: next } }));
    } catch (error) {
      showProblem(error);
    }
  };
  row.querySelector(".confirm").addEventListener("click", () => judge("confirmed"));
  row.querySelector(".reject").addEventListener("click", () => judge("rejected"));
  row.querySelector(".clip").addEventListener("click", () => play(events.get(id).data));
}

async function paintEvent(known) {
  const { row, data } = known;
  const name = cameras.get(data.camera_id)?.data.name || data.camera_id;
  row.dataset.verdict = data.verdict ?? "";
  row.querySelector(".label").textContent = data.label;
  row.querySelector(".ongoing").hidden = data.end_utc !== null;
  const lasted = data.end_utc ? ` · ${number((new Date(data.end_utc) - new Date(data.start_utc)) / 1000, 0)}\u00a0s` : "";
  row.querySelector(".where").textContent = `${name} · ${clock(data.start_utc)}${lasted}`;
  row.querySelector(".event-score").textContent = number(data.score);
  row.querySelector(".confirm").setAttribute("aria-pressed", String(data.verdict === "confirmed"));
  row.querySelector(".reject").setAttribute("aria-pressed", String(data.verdict === "rejected"));
  row.querySelector(".clip").hidden = !data.links.clip;
  if (!data.has_snapshot || known.pictured === data.score) return;
  known.pictured = data.score; // a higher score brings a new picture
  const path = `/v1/events/${encodeURIComponent(data.id)}/snapshot.jpg`;
  const picture = await pictureUrl(path, session?.signal);
  if (picture) setPicture(row.querySelector("img"), picture, `${data.label} on ${name}`);
}

// A clip is fetched whole, because a <video> could not send the token; they are a few megabytes.
async function play(data) {
  const player = $("player");
  const clip = await pictureUrl(data.links.clip, session?.signal);
  if (!clip) return showProblem(new Error("The clip of this event is not there any more."));
  $("player-title").textContent = `${data.label} · ${cameras.get(data.camera_id)?.data.name || data.camera_id} · ${clock(data.start_utc)}`;
  player.querySelector("video").src = clip;
  Object.assign(player.querySelector(".save"), { href: clip, download: `${data.camera_id}-${data.id}.mp4` });
  player.showModal();
}

$("player").addEventListener("close", () => {
  const video = $("player").querySelector("video");
  URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.load();
});
$("player-close").addEventListener("click", () => $("player").close());

// --- model and refreshes -------------------------------------------------------------------------------------------

async function loadSystem(signal) {
  const system = await api("/v1/system", { signal });
  const alive = system.workers.filter((worker) => worker.alive).length;
  $("workers").textContent = `${alive} of ${system.workers.length}${system.ready ? "" : " · not ready"}`;
}

async function loadModels(signal) {
  const live = (await api("/v1/models", { signal })).find((model) => model.live);
  $("model-live").textContent = live?.version ?? "–";
  $("model-parent").textContent = live?.parent ?? "–";
  $("rollback").disabled = !live?.parent;
}

function showRefresh(data) {
  refreshes.set(data.id, data);
  const newest = [...refreshes.values()].sort((a, b) => b.started_utc.localeCompare(a.started_utc));
  $("refreshes").replaceChildren(...newest.slice(0, REFRESHES_SHOWN).map(refreshRow));
  $("refresh").disabled = newest.some((refresh) => refresh.status === "running");
}

function refreshRow(data) {
  const row = fresh("refresh-row");
  const running = data.status === "running";
  row.dataset.status = data.status;
  row.querySelector(".status").textContent = running ? data.step : data.status;
  row.querySelector(".when").textContent = clock(data.started_utc) + (data.self_test ? " · fire drill" : "");
  row.querySelector(".detail").textContent = data.detail;
  const progress = row.querySelector("progress");
  progress.hidden = !running;
  progress.value = data.progress;
  return row;
}

async function act(button, path, body) {
  button.disabled = true;
  showProblem(null);
  try {
    return await api(path, { method: "POST", body });
  } catch (error) {
    showProblem(error);
    return null;
  } finally {
    button.disabled = false;
  }
}

$("refresh").addEventListener("click", async () => {
  const started = await act($("refresh"), "/v1/refreshes", {});
  if (started) showRefresh(started);
});

$("rollback").addEventListener("click", async () => {
  if (!confirm("Go back to the model before this one?")) return;
  if (await act($("rollback"), "/v1/models/rollback")) await loadModels(session.signal);
});

// --- life of the page ----------------------------------------------------------------------------------------------

async function loadAll(signal) {
  await Promise.all([loadCameras(signal), loadSystem(signal), loadModels(signal)]);
  const page = await api(`/v1/events?limit=${EVENTS_SHOWN}`, { signal });
  page.events.forEach(showEvent);
  (await api(`/v1/refreshes?limit=${REFRESHES_SHOWN}`, { signal })).forEach(showRefresh);
}

function onMessage(topic, data) {
  if (topic === "event") showEvent(data);
  if (topic === "camera") showCamera(data);
  if (topic === "refresh" && !data.deleted) showRefresh(data);
  if (topic === "model") loadModels(session?.signal).catch(failed);
  if (topic === "reset") loadAll(session?.signal).catch(failed);
}

function onLink(state) {
  $("link").dataset.state = state;
  $("link").textContent = state;
}

function failed(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) return askForToken(getToken() ? "This token is not the right one." : "");
  showProblem(error);
}

function askForToken(problem) {
  session?.abort();
  setToken("");
  $("content").hidden = true;
  $("sign-out").hidden = true;
  $("sign-in").hidden = false;
  $("sign-in-problem").textContent = problem;
  $("summary").textContent = "";
  onLink("offline");
  $("token").focus();
}

async function start() {
  session?.abort();
  session = new AbortController();
  const { signal } = session;
  try {
    await loadAll(signal);
  } catch (error) {
    failed(error);
    if (error.status === 401) return;
    setTimeout(() => { if (!signal.aborted) start(); }, POLL_MS);
    return;
  }
  showProblem(null);
  $("sign-in").hidden = true;
  $("content").hidden = false;
  $("sign-out").hidden = !getToken();
  follow(onMessage, onLink, failed, signal);
  poll(signal);
}

async function poll(signal) {
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        await Promise.all([loadCameras(signal), loadSystem(signal)]);
        showProblem(null);
        await loadPictures(signal);
      } catch (error) {
        failed(error);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

$("sign-in").addEventListener("submit", (submit) => {
  submit.preventDefault();
  setToken($("token").value);
  $("token").value = "";
  start();
});
$("sign-out").addEventListener("click", () => askForToken(""));
start();
