import { html } from './preact.js';
import { useStore } from './store.js';
import { clockTime, relative, useNow, utc } from './time.js';

export const PRIORITIES = ['HIGH', 'MEDIUM', 'LOW'];
const NAMES = { HIGH: 'High', MEDIUM: 'Medium', LOW: 'Low' };
const COUNTED = ['completed', 'failed', 'cancelled', 'triggered'];
const WORDS = { completed: 'completed', failed: 'failed', cancelled: 'cancelled', triggered: 'under way' };
const numberFormat = new Intl.NumberFormat();

export const short = (id) => id.slice(0, 8);
export const number = (value) => numberFormat.format(value);
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
export const hashOf = (id) => `#/ingestions/${encodeURIComponent(id)}`;

/** Has a link jump inside the page: the fragment is the route's. */
export const skipTo = (id) => (event) => {
  event.preventDefault();
  document.getElementById(id).focus();
};

/** A priority: its colour, its letter and its name. */
export const Priority = ({ of, isShort }) => html`
  <span class="priority" data-priority=${of}>
    <span class="letter" aria-hidden="true">${of[0]}</span>
    <span class=${isShort ? 'hidden' : ''}>${NAMES[of]}</span>
  </span>
`;

/** A moment (text): the clock time here, and UTC on pointing at it. */
export const Time = ({ at }) => {
  const ms = Date.parse(at);
  return html`<time dateTime=${at} title=${utc(ms)}>${clockTime(ms)}</time>`;
};

/** A moment as a distance that counts: 'in 2 min 10 s'. What was expected and has not come is due. */
export function Relative({ at, isExpected }) {
  const time = useNow();
  const isDue = isExpected && Date.parse(at) < time;
  return html`<span class="relative">${isDue ? 'due' : relative(Date.parse(at), time)}</span>`;
}

/** A moment both ways. */
export const Moment = ({ at, isExpected }) => html`<${Time} at=${at} /> <${Relative} at=${at} isExpected=${isExpected} />`;

/** What an ingestion's status is called, the mark that goes with it, and what of it is bad. */
function statusOf({ status, progress }, isRunning) {
  const { failed, cancelled, total_batches: total } = progress;
  if (status === 'yet_to_start') return { mark: '○', text: 'Waiting' };
  if (status === 'triggered') return { mark: '◐', text: isRunning ? 'Running' : 'In progress' };
  if (failed) return { mark: '✕', text: 'Completed, ', bad: `${number(failed)} failed` };
  if (cancelled === total) return { mark: '⊘', text: 'Cancelled' };
  return { mark: '✓', text: cancelled ? `Completed, ${number(cancelled)} cancelled` : 'Completed' };
}

/** An ingestion's status in a word and a mark. */
export function Status({ of }) {
  const running = useStore((state) => state.queue?.running);
  const isRunning = running && [running, ...(running.also ?? [])].some((part) => part.ingestion_id === of.ingestion_id);
  const { mark, text, bad } = statusOf(of, isRunning);
  return html`<span class="status"><span class=${bad ? 'mark bad' : 'mark'} aria-hidden="true">${mark}</span>${text}${bad && html`<span class="bad">${bad}</span>`}</span>`;
}

/** How far an ingestion is, as a bar of what is completed, failed, cancelled and under way. */
export function Progress({ of, priority }) {
  const parts = COUNTED.filter((name) => of[name] > 0);
  const told = parts.map((name) => `${number(of[name])} ${WORDS[name]}`).join(', ') || 'nothing started';
  const label = `${told}, of ${count(of.total_batches, 'batch', 'batches')}`;
  return html`
    <span class="progress" role="img" aria-label=${label} title=${label} data-priority=${priority}>
      ${parts.map((name) => html`<span key=${name} class=${name} style=${{ flexGrow: of[name] / of.total_batches }} />`)}
    </span>
  `;
}

/** What went wrong, where it matters. */
export const Problem = ({ children }) => html`
  <p class="problem" role="alert"><span class="mark" aria-hidden="true">✕</span><span>${children}</span></p>
`;
