/* api.js - asks the site that this page came from, and nobody else.
 *
 * The token lives in this module alone and is gone with the page. */
const base = new URL('../', import.meta.url);
const patienceMs = 8000;
const actionPatienceMs = 60000;

let token = null;

/** A refusal or a failure; `status` is 0 if there was no answer at all. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function setToken(value) {
  token = value;
}

export function hasToken() {
  return token !== null;
}

async function ask(path, options, waitMs) {
  const headers = { Accept: 'application/json', ...options.headers };
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  let response, text;
  try {
    response = await fetch(new URL(path, base), {
      ...options, headers, cache: 'no-store', credentials: 'same-origin',
      redirect: 'error', signal: AbortSignal.timeout(waitMs),
    });
    text = await response.text();
  } catch (error) {
    throw new ApiError(0, error.message);
  }
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ApiError(response.status, `HTTP ${response.status}`);
  }
  if (!response.ok) throw new ApiError(response.status, String(body.error ?? `HTTP ${response.status}`));
  return body;
}

export function read(path, query = {}) {
  const words = new URLSearchParams(query).toString();
  return ask(words === '' ? path : `${path}?${words}`, {}, patienceMs);
}

export function act(path, query) {
  const options = {
    method: 'POST', body: '{}',
    headers: { 'Content-Type': 'application/json', 'X-Memguard': '1' },
  };
  return ask(`${path}?${new URLSearchParams(query)}`, options, actionPatienceMs);
}
