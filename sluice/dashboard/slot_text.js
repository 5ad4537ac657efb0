import { html } from './preact.js';
import { Moment, Priority, count, number, short } from './parts.js';
import { clockTime, duration } from './time.js';

const MOST_IDS = 12;
const MOST_JOBS = 4;

const idsOf = ({ ids }) =>
  ids.length > MOST_IDS ? `${ids.slice(0, MOST_IDS).join(', ')} and ${number(ids.length - MOST_IDS)} more` : ids.join(', ');

/** Returns all that is known of a slot in one sentence, for who cannot see it. */
export function describe(slot) {
  const when = slot.kind === 'coming'
    ? slot.start === null ? 'waits while paused' : `expected at ${clockTime(slot.start)}`
    : `started ${clockTime(slot.start)}`;
  const what = `${slot.is_retry ? 'retry of ' : ''}${count(slot.ids.length, 'ID')}: ${idsOf(slot)}`;
  return `${slot.priority}, ingestion ${short(slot.ingestion_id)}, ${when}, ${what}${outcome(slot)}`;
}

/** Returns how many jobs share a slot, and with which IDs. */
export const sharing = (slot) => `${count(slot.jobs.length, 'job')}: ${idsOf(slot)}`;

function outcome(slot) {
  if (slot.kind === 'running') return ', running';
  const counts = ['completed', 'failed', 'retrying'].filter((name) => slot[name] > 0);
  return counts.map((name) => `, ${slot[name]} ${name === 'retrying' ? 'to be tried again' : name}`).join('');
}

/** What the part of a slot that is pointed at is, and what shares the slot; else what the signs mean. */
export function Inspector({ slot: whole, part: slot, isPaused }) {
  if (!slot) return html`<${Legend} isPaused=${isPaused} />`;
  const others = whole.jobs.filter((id) => id !== slot.ingestion_id);
  return html`
    <p class="inspector" id="inspector">
      ${others.length > 0 && html`<b>${sharing(whole)}</b>`}
      <${Priority} of=${slot.priority} />
      <code>${short(slot.ingestion_id)}</code>
      <span>${slot.kind === 'coming' ? (slot.start === null ? 'waits while paused' : html`expected <${Moment} at=${slot.expected_start} isExpected />`) : html`started <${Moment} at=${slot.started_at} />`}</span>
      ${slot.finished_at && html`<span class="quiet">took ${tookOf(slot)}</span>`}
      <span>${slot.is_retry ? 'retry, ' : ''}${slot.ids.length === 1 ? 'ID' : 'IDs'} ${idsOf(slot)}</span>
      ${slot.kind !== 'coming' && html`<span class=${slot.failed ? 'bad' : 'quiet'}>${outcome(slot).slice(2)}</span>`}
      <span class="quiet">batch <code>${short(slot.batch_ids[0])}</code>${slot.batch_ids.length > 1 ? ` and ${slot.batch_ids.length - 1} more` : ''}</span>
      ${others.length > 0 && html`<span class="quiet">with <code>${others.slice(0, MOST_JOBS).map(short).join(', ')}</code>${others.length > MOST_JOBS && ', …'}</span>`}
    </p>
  `;
}

function tookOf({ started_at: start, finished_at: end }) {
  const ms = Date.parse(end) - Date.parse(start);
  return ms < 10_000 ? `${(ms / 1000).toFixed(2)} s` : duration(ms);
}

function Legend({ isPaused }) {
  return html`
    <p class="inspector legend" id="inspector">
      <span><i class="key done" aria-hidden="true" /> ran</span>
      <span><i class="key runs" aria-hidden="true" /> running</span>
      <span><i class="key comes" aria-hidden="true" /> forecast${isPaused ? ', in order; no times while paused' : ', if nothing more arrives or fails'}</span>
      <span><b class="badge retry" aria-hidden="true" /> a retry</span>
      <span><b class="badge again" aria-hidden="true" /> has IDs to be tried again</span>
      <span><b class="badge failed" aria-hidden="true" /> has failures</span>
    </p>
  `;
}
