import { useEffect, useState } from './preact.js';

/** What the page knows before it has asked. */
const blank = () => ({
  session: { is: 'unknown', name: null, role: null, text: '' }, // unknown | out | in; whose key, if one is needed; why
  lane: new URLSearchParams(location.search).get('lane') || 'default',
  lanes: [],
  slots: null, // GET /slots
  queue: null, // GET /queue
  drained: null, // when all that waits now has started: {at, known}
  list: null, // GET /ingestions, the page that is shown
  view: { status: '', priority: '', cursors: [] }, // its filters, and the cursors of the pages up to it
  loadError: null, // why the last load failed
  loadedAt: null, // when all of it was last known, server time in ms
  connection: 'connecting', // connecting | live | polling | asked | down
  told: null, // what the last events said of ingestions, by id
  submitted: null, // the ingestion that was submitted here last
  dialog: null, // what is asked before it is done
  lit: null, // the ingestion that is pointed at
  revision: 0, // counts loads, for those who load more by themselves
});
/** Only `update` and `reset` change it; every change is a new object. */
let state = blank();
const listeners = new Set();

/** Returns what is known now. */
export const get = () => state;

/** Merges `changes` in, and tells whoever listens. */
export function update(changes) {
  state = { ...state, ...changes };
  for (const listener of [...listeners]) listener(state);
}

/** Forgets all but `changes`. */
export function reset(changes) {
  update({ ...blank(), ...changes });
}

/** Gives a component the part of the state that `select` picks, and renders it when that changes. */
export function useStore(select) {
  const [, render] = useState(0);
  const picked = select(state);
  useEffect(() => {
    let last = picked;
    const listener = (next) => {
      const value = select(next);
      if (value !== last) {
        last = value;
        render((count) => count + 1);
      }
    };
    listeners.add(listener);
    listener(state); // it may have changed between the render and now
    return () => listeners.delete(listener);
  }, []);
  return picked;
}
