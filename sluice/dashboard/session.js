import * as api from './api.js';
import { get, reset, update, useStore } from './store.js';

const AGAIN = 3000; // ms
const OVER = 'You are no longer signed in: the session is over, or its key is not valid any more.';
// `watch`: the queue, the timeline, the events and what others submitted; `steer`: change any of it.
const CAN = {
  admin: { submit: true, steer: true, watch: true },
  read: { submit: false, steer: false, watch: true },
  submit: { submit: true, steer: false, watch: false },
};

/** Returns what the page can do for who is signed in. */
export const can = () => CAN[get().session.role] ?? {};

/** Gives a component what `can` returns, and renders it when that changes. */
export const useCan = () => CAN[useStore((state) => state.session.role)] ?? {};

/** Asks until it is known who is signed in, before anything else is asked. */
export async function begin() {
  api.whenRefused(() => leave(OVER));
  while (get().session.is === 'unknown') {
    try {
      enter(await api.whoIs());
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      if (error.status === 401) leave('');
      else await wait(error);
    }
  }
}

async function wait({ message }) {
  update({ session: { ...get().session, text: `${message} It is asked again every ${AGAIN / 1000} s.` } });
  await new Promise((resolve) => setTimeout(resolve, AGAIN));
}

/** Signs in; throws an `ApiError` if that is not to be. */
export async function signIn(key) {
  enter(await api.signIn(key));
}

/** Signs out; throws an `ApiError` if the server does not hear of it: the cookie is not the page's to take away. */
export async function signOut() {
  await api.signOut();
  history.replaceState(null, '', location.pathname); // what was looked at is not for who comes next
  leave('You are signed out.');
}

/** Looks whether the same key is still signed in, and goes by the answer. */
export async function check() {
  const { session } = get();
  if (session.is !== 'in' || session.name === null) return;
  try {
    const { name, role } = await api.whoIs();
    if (session === get().session && (name !== session.name || role !== session.role)) enter({ name, role });
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    if (session === get().session && error.status === 401) leave(OVER);
  }
}

function enter({ name, role }) {
  change({ is: 'in', name, role, text: '' });
}

function leave(text) {
  change({ is: 'out', name: null, role: null, text });
}

function change(session) {
  // In this order, so that whoever waits for an answer is gone before it fails.
  reset({ session });
  api.abandon();
}
