import { heard } from './time.js';

const ATTEMPTS = 3;
const BACKOFF = 800; // ms, doubling
const LONGEST_WAIT = 20_000; // ms
const SESSION = '/session';

let session = new AbortController(); // of the requests that are made in it
let refuse = () => {};

/** Has `then` called when the server says that nobody, or nobody any more, is signed in. */
export function whenRefused(then) {
  refuse = then;
}

/** Ends every request: what they were made for is over, and their answers are nobody's. */
export function abandon() {
  session.abort();
  session = new AbortController();
}

/** Why a request failed. `isLost`: there was no answer, so nobody knows whether it was carried out. */
export class ApiError extends Error {
  constructor(detail, status = 0) {
    super(detail);
    this.status = status;
    this.isLost = status === 0 || status === 502 || status === 504;
  }
}

async function request(path, { method = 'GET', body, headers = {}, signal } = {}) {
  const ended = session.signal;
  const signals = [AbortSignal.timeout(LONGEST_WAIT), ended];
  const options = { method, headers: { ...headers }, cache: 'no-store' };
  options.signal = AbortSignal.any(signal ? [signal, ...signals] : signals);
  if (body !== undefined) {
    options.headers['Content-Type'] = 'application/json';
    options.body = typeof body === 'string' ? body : JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw ended.aborted ? overWith() : new ApiError('The server cannot be reached.');
  }
  heard(response.headers.get('Date'));
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (ended.aborted) throw overWith();
  if (response.status === 401 && path !== SESSION) refuse();
  throw problem;
}

const overWith = () => new ApiError('Nobody is signed in any more.', 401);

async function problemOf(response) {
  const problem = await response.json().catch(() => ({}));
  return new ApiError(problem.detail || `The server answered ${response.status} ${response.statusText}.`, response.status);
}

async function json(path, options) {
  const ended = session.signal;
  const response = await request(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw ended.aborted ? overWith() : new ApiError('The answer of the server was cut off.');
  }
}

/** Returns '?a=1&b=2' of the values that are there. */
function query(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return kept.length ? `?${new URLSearchParams(kept)}` : '';
}

const pathOf = (id) => encodeURIComponent(id);

export const whoIs = () => json(SESSION);
export const signIn = (key) => json(SESSION, { method: 'POST', body: { key } });
export const signOut = () => request(SESSION, { method: 'DELETE' });
export const slots = (lane) => json(`/slots${query({ lane, past: 60, coming: 60 })}`);
export const queue = (lane) => json(`/queue${query({ lane })}`);
export const ingestions = (filters) => json(`/ingestions${query(filters)}`);
export const status = (id, page, signal) => json(`/status/${pathOf(id)}${query(page)}`, { signal });
export const forecast = (lane, count, signal) => json('/forecast', { method: 'POST', body: { lane, count }, signal });
export const pause = (lane, reason) => json(`/queue/pause${query({ lane })}`, { method: 'POST', body: { reason } });
export const resume = (lane) => json(`/queue/resume${query({ lane })}`, { method: 'POST' });
export const cancel = (id) => json(`/ingestions/${pathOf(id)}`, { method: 'DELETE' });
export const reprioritise = (id, priority) => json(`/ingestions/${pathOf(id)}`, { method: 'PATCH', body: { priority } });
export const retry = (id) => json(`/ingestions/${pathOf(id)}/retry`, { method: 'POST' });
export const resultsPath = (id) => `/results/${pathOf(id)}`;
export const eventsPath = (lane) => `/events${query({ lane })}`;

/** Submits, and again while no answer comes: the key makes it one submission however often it is sent. */
export async function ingest(body, key) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await json('/ingest', { method: 'POST', body, headers: { 'Idempotency-Key': `"${key}"` } });
    } catch (error) {
      // 409: the first of them is still being recorded.
      if (attempt === ATTEMPTS || !(error.isLost || error.status === 409)) throw error;
      await new Promise((resolve) => setTimeout(resolve, BACKOFF * 2 ** (attempt - 1)));
    }
  }
}

/** Returns the first `most` lines of the results, as text, and whether there are more. */
export async function firstResults(id, most, signal) {
  const stop = new AbortController();
  const response = await request(resultsPath(id), { signal: AbortSignal.any([signal, stop.signal]) });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    text += value ?? '';
    const lines = text.split('\n');
    if (done || lines.length > most + 1) {
      stop.abort();
      return { lines: lines.slice(0, most).filter(Boolean), hasMore: lines.length > most + 1 };
    }
  }
}
