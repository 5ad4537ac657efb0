import * as api from './api.js';
import { applyEvent, load } from './data.js';
import { can, check } from './session.js';
import { get, update } from './store.js';
import { heard } from './time.js';

const KINDS = ['accepted', 'started', 'finished', 'interrupted', 'cancelled', 'reprioritised', 'retried', 'expired'];
const LANE_KINDS = ['held', 'paused', 'resumed', 'reset'];
const SPACING = 330; // ms between loads, at least
const JITTER = 80; // ms, so that many pages do not ask in step
const POLL = 3000; // ms
const CHECK = 20_000; // ms: heartbeats cannot be seen from here, so look whether the server is there now and then
const LONGEST_BACKOFF = 15_000; // ms

let source = null;
let failures = 0;
let reconnectTimer = 0;
let loadTimer = 0;
let isLoading = false;
let isDirty = false;
let lastLoad = 0;
let pending = [];

/** Loads all that is shown soon: at once if the last load was a while ago, never too often, never while hidden. */
export function refresh() {
  isDirty = true;
  if (loadTimer || isLoading || document.hidden) return;
  const due = lastLoad + SPACING + Math.random() * JITTER - performance.now();
  loadTimer = setTimeout(loadNow, Math.max(0, due));
}

async function loadNow() {
  loadTimer = 0;
  isLoading = true;
  isDirty = false;
  lastLoad = performance.now();
  const isReached = await load().finally(() => {
    isLoading = false;
  });
  const isOpen = source?.readyState === EventSource.OPEN;
  if (!isReached) {
    update({ connection: 'down' });
    if (isOpen) reconnect();
  } else if (!can().watch) {
    update({ connection: 'asked' });
  } else if (isOpen || get().connection === 'down') {
    update({ connection: isOpen ? 'live' : 'polling' });
  }
  if (isDirty) refresh();
}

/** Starts to listen to the lane that is shown, and to look by itself while there is no stream; returns what ends it. */
export function start() {
  const end = new AbortController();
  const wake = () => {
    if (document.hidden) return;
    check(); // another tab may have signed out, or in with another key
    refresh();
  };
  connect();
  refresh();
  const timer = setInterval(() => {
    const age = performance.now() - lastLoad;
    if (age > (get().connection === 'live' ? CHECK : POLL - 100)) refresh();
  }, 500);
  document.addEventListener('visibilitychange', wake, { signal: end.signal });
  addEventListener('online', connect, { signal: end.signal });
  return () => {
    end.abort();
    clearInterval(timer);
    clearTimeout(loadTimer);
    clearTimeout(reconnectTimer);
    source?.close();
    [source, failures, loadTimer, isDirty, lastLoad, pending] = [null, 0, 0, false, 0, []];
  };
}

/** Shows another lane. */
export function switchLane(lane) {
  if (lane === get().lane) return;
  update({ lane, slots: null, queue: null, drained: null, list: null, view: { ...get().view, cursors: [] } });
  const url = new URL(location.href);
  if (lane === 'default') url.searchParams.delete('lane');
  else url.searchParams.set('lane', lane);
  history.replaceState(null, '', url);
  connect();
  refresh();
}

function connect() {
  clearTimeout(reconnectTimer);
  source?.close();
  if (!can().watch) return;
  source = new EventSource(api.eventsPath(get().lane));
  source.onopen = () => {
    failures = 0;
    update({ connection: 'live' });
    refresh();
  };
  source.onerror = () => {
    if (get().connection !== 'down') update({ connection: 'polling' });
    refresh();
    // Otherwise the browser tries again by itself, and says what it heard last.
    if (source.readyState !== EventSource.CLOSED) return;
    reconnect();
    check(); // an event stream does not say with which status it was refused
  };
  for (const kind of [...KINDS, ...LANE_KINDS]) source.addEventListener(kind, hear);
}

function reconnect() {
  source.close();
  failures += 1;
  const wait = Math.min(LONGEST_BACKOFF, 1000 * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
  clearTimeout(reconnectTimer);
  reconnectTimer = setTimeout(connect, wait);
}

function hear(message) {
  const data = JSON.parse(message.data);
  heard(data.time);
  if (!pending.length) setTimeout(applyPending, 50);
  pending.push({ kind: message.type, ...data });
  refresh();
}

// Many at a time: what arrives within a moment is one render.
function applyPending() {
  const events = pending;
  pending = [];
  applyEvent(events);
}
