import * as api from './api.js';
import { can } from './session.js';
import { get, update } from './store.js';
import { heard, now } from './time.js';

export const PAGE = 50; // ingestions

/** Loads all that the page shows and the key may see; returns whether the server answered. */
export async function load() {
  const { lane, view, session } = get();
  const isOutdated = () => lane !== get().lane || session !== get().session;
  const cursor = view.cursors.at(-1);
  const filters = { lane, status: view.status, priority: view.priority, cursor, limit: PAGE };
  try {
    const [list, lanewide] = await Promise.all([api.ingestions(filters), can().watch ? loadLane(lane) : narrow(lane)]);
    if (isOutdated()) return true;
    const isList = view === get().view;
    update({
      ...lanewide,
      ...(isList ? { list } : {}),
      loadError: null,
      loadedAt: now(),
      revision: get().revision + 1,
    });
    return true;
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    if (!isOutdated()) update({ loadError: error.message, revision: get().revision + 1 });
    return error.status >= 400 && error.status < 500;
  }
}

async function loadLane(lane) {
  const [slots, queue, forecast] = await Promise.all([api.slots(lane), api.queue(lane), api.forecast(lane, 1)]);
  for (const slot of slots.past.slice(-1)) heard(slot.finished_at ?? slot.started_at);
  // The newest ID of the lowest priority would start when all that waits now has.
  return { slots, queue, drained: forecast.forecasts.LOW.expected_start, lanes: slots.lanes };
}

// Nobody tells such a key which lanes there are; that it works in another one has to be seen all the same.
const narrow = (lane) => ({ lanes: [...new Set(['default', ...get().lanes, lane])] });

/** Shows another page or another choice of the list. */
export function showList(changes) {
  update({ view: { ...get().view, ...changes }, list: null });
}

/** Brings what is shown up to date with what events told: how far ingestions are, what is held or paused. */
export function applyEvent(events) {
  const { list, queue } = get();
  const told = new Map(events.filter((event) => event.progress).map((event) => [event.ingestion_id, event]));
  const changes = { told };
  if (list?.ingestions.some((each) => told.has(each.ingestion_id))) {
    changes.list = { ...list, ingestions: list.ingestions.map((each) => withEvent(each, told.get(each.ingestion_id))) };
  }
  for (const { kind, time, reason, until } of queue ? events : []) {
    const before = changes.queue ?? queue;
    if (kind === 'paused') changes.queue = { ...before, paused: { since: time, reason } };
    if (kind === 'resumed') changes.queue = { ...before, paused: null };
    if (kind === 'held') changes.queue = { ...before, hold: { until, reason } };
  }
  update(changes);
}

/** Returns an ingestion as an event told it; the forecast follows with the next load. */
export function withEvent(ingestion, event) {
  if (!event) return ingestion;
  const { status, priority, progress } = event;
  const done = status === 'completed' ? { finished_time: event.time, expected_completion: null, position: null } : {};
  return { ...ingestion, status, priority, progress, ...done };
}
