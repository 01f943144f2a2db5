// SPDX-License-Identifier: Apache-2.0
// api.js - requests to the server, its key, and jobs whose events are told as they come.

let key = sessionStorage.getItem("key") || "";

function askKey() {
  const box = document.getElementById("key-box");
  return new Promise((resolve) => {
    document.getElementById("key-form").onsubmit = () => {
      key = document.getElementById("key").value;
      sessionStorage.setItem("key", key);
      resolve();
    };
    if (!box.open) box.showModal();
  });
}

// A response that isn't an error; asks for the key when one is wanted.
async function request(method, path, body, signal) {
  for (;;) {
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const r = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
    if (r.ok) return r;
    if (r.status === 401) {
      await askKey();
      continue;
    }
    const said = await r.json().catch(() => null);
    throw new Error(said?.error?.message || `${r.status} ${r.statusText}`);
  }
}

export async function get(path) {
  return (await request("GET", path)).json();
}

export async function post(path, body) {
  return (await request("POST", path, body)).json();
}

// Server-sent events by fetch, since EventSource sends no key.
async function* events(path, signal) {
  const reader = (await request("GET", path, null, signal)).body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const lines = text.slice(0, end).split("\n");
      const name = lines.find((l) => l.startsWith("event: "));
      const data = lines.find((l) => l.startsWith("data: "));
      if (name && data) yield { name: name.slice(7), data: JSON.parse(data.slice(6)) };
    }
  }
}

// A job from its request to its end. told(name, data) hears of "state" and "preview".
export class Job {
  constructor(body, told) {
    this.stopped = false;
    this.abort = new AbortController();
    this.result = this.run(body, told);
    this.result.catch(() => {}); // whoever waits hears of it
  }

  async run(body, told) {
    const { id } = await post("/v1/jobs", body);
    this.id = id;
    if (this.stopped) {
      this.stop();
      return null;
    }
    try {
      for await (const { name, data } of events(`/v1/jobs/${id}/events`, this.abort.signal)) {
        if (this.stopped) return null;
        if (name === "result") return data.result;
        if (data.state === "failed") throw new Error(data.error);
        if (data.state === "cancelled") return null;
        told?.(name, data);
      }
    } catch (e) {
      if (this.stopped) return null;
      throw e;
    }
    throw new Error("the server went away");
  }

  stop() {
    this.stopped = true;
    if (this.id) request("DELETE", `/v1/jobs/${this.id}`).catch(() => {});
    this.abort.abort();
  }
}
