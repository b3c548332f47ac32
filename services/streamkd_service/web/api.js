// Talking to the service: JSON, pictures and the live stream, all with the token in a header.
const KEY = "streamkd-token";
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;
const SILENCE_MS = 40000; // the service sends something every 15 s

export const getToken = () => sessionStorage.getItem(KEY) ?? "";
export const setToken = (token) => (token ? sessionStorage.setItem(KEY, token) : sessionStorage.removeItem(KEY));

function headers(more = {}) {
  const token = getToken();
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  const words = [body.detail ?? response.statusText, body.hint].filter(Boolean).join(" ");
  return Object.assign(new Error(words), { status: response.status });
}

export async function api(path, { method = "GET", body, signal } = {}) {
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    const sent = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(path, { method, headers: headers(json), body: sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service does not answer.");
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

// A blob URL for an <img>, which could not send the token itself; null where there is no picture.
export async function pictureUrl(path, signal) {
  try {
    const response = await fetch(path, { headers: headers(), signal });
    return response.ok ? URL.createObjectURL(await response.blob()) : null;
  } catch {
    return null;
  }
}

// Follow /v1/stream until `signal` aborts; comes back after every break with the last id that was seen.
export async function follow(onMessage, onLink, onFailure, signal) {
  const position = { id: "" };
  let waitMs = FIRST_WAIT_MS;
  while (!signal.aborted) {
    onLink("connecting");
    try {
      await readStream(position, signal, onMessage, () => {
        waitMs = FIRST_WAIT_MS;
        onLink("live");
      });
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) return onFailure(error);
    }
    onLink("offline");
    await new Promise((resolve) => setTimeout(resolve, waitMs * (0.5 + Math.random())));
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
  }
}

async function readStream(position, signal, onMessage, onOpen) {
  const last = position.id ? { "Last-Event-ID": position.id } : {};
  const quiet = new AbortController();
  const either = AbortSignal.any([signal, quiet.signal]);
  const response = await fetch("/v1/stream", { headers: headers(last), signal: either });
  if (!response.ok) throw await problemOf(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let timer;
  try {
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(() => quiet.abort(), SILENCE_MS);
      const { value, done } = await reader.read();
      if (done) return;
      onOpen();
      const blocks = (text + value).split(/\r\n\r\n|\n\n/);
      text = blocks.pop();
      for (const block of blocks) dispatch(block, position, onMessage);
    }
  } finally {
    clearTimeout(timer);
  }
}

function dispatch(block, position, onMessage) {
  const fields = { event: "message", data: [] };
  for (const line of block.split(/\r\n|\n/)) {
    const at = line.indexOf(":");
    if (at <= 0) continue; // a comment
    const value = line.slice(at + 1).replace(/^ /, "");
    if (line.slice(0, at) === "data") fields.data.push(value);
    else fields[line.slice(0, at)] = value;
  }
  if (fields.data.length) onMessage(fields.event, JSON.parse(fields.data.join("\n")));
  if (fields.id) position.id = fields.id; // after it was shown: what failed is sent again
}
