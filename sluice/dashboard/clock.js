import { html, useEffect, useRef } from './preact.js';
import { askToPause, askToResume } from './actions.js';
import { isStill, keepDrawing } from './motion.js';
import { Moment, Priority, Relative, Time, count, hashOf, number, short } from './parts.js';
import { useCan } from './session.js';
import { useStore } from './store.js';
import { asOne, slotsOf } from './timeline_layout.js';
import { duration, now, useNow } from './time.js';

const CIRCUMFERENCE = 2 * Math.PI * 44;
const MOST_JOBS = 8; // named of those that share a slot
const GRACE = 1500; // ms that a start may be late before it is called so: the news of it has to travel

/** Returns what the lane does now: a word for it, and the moment (ms) that it counts down to, if any. */
function stateOf(queue, time, isReached) {
  const next = queue.next_start && Date.parse(queue.next_start);
  if (!isReached) return { name: 'unknown', title: 'Not known now' };
  if (queue.paused) return { name: 'paused', title: 'Paused' };
  if (queue.hold && Date.parse(queue.hold.until) > time) {
    return { name: 'held', title: 'Held by the upstream', until: Date.parse(queue.hold.until) };
  }
  if (next === null) {
    return queue.running ? { name: 'last', title: 'Last batch is running' } : { name: 'idle', title: 'Idle' };
  }
  if (next + GRACE > time) return { name: 'counting', title: 'Next start', until: next };
  if (queue.running) return { name: 'waiting', title: 'Waiting for the running batch' };
  return { name: 'overdue', title: 'Start overdue' };
}

/** The time to the next start, what runs, and the way to stop it. */
export function SlotClock() {
  const queue = useStore((state) => state.queue);
  const slots = useStore((state) => state.slots);
  const lane = useStore((state) => state.lane);
  const isReached = useStore((state) => state.connection !== 'down');
  const can = useCan();
  const time = useNow();
  if (!queue || !slots) return html`<section class="clock" aria-busy="true"><h2>Slot clock</h2></section>`;
  const state = stateOf(queue, time, isReached);
  const waiting = Object.values(queue.waiting).reduce((sum, each) => sum + each, 0);
  return html`
    <section class="clock" aria-labelledby="clock-title" data-state=${state.name}>
      <${Dial} state=${state} interval=${slots.interval * 1000} />
      <div class="clock-text">
        <h2 id="clock-title"><span class="hidden">Slot clock: </span>${state.title}</h2>
        <${Detail} state=${state} queue=${queue} next=${slotsOf(slots.coming, 'expected_start', slots.batch_size)[0]} />
        ${isReached && html`<${Running} running=${queue.running} />`}
        ${can.steer && (queue.paused
          ? html`<button id="resume" class="primary" onClick=${() => askToResume(lane, waiting)}>Resume…</button>`
          : html`<button id="pause" onClick=${() => askToPause(lane, queue.running)}>Pause…</button>`)}
      </div>
    </section>
  `;
}

function Detail({ state, queue, next }) {
  const job = next && html`<${Priority} of=${next.priority} isShort /> <a href=${hashOf(next.ingestion_id)}><code>${short(next.ingestion_id)}</code></a>${next.jobs.length > 1 && ` and ${number(next.jobs.length - 1)} more`}`;
  switch (state.name) {
    case 'unknown':
      return html`<p>The server cannot be reached. The rest of the page is what was known last.</p>`;
    case 'paused':
      return html`<p>since <${Moment} at=${queue.paused.since} />${queue.paused.reason && html`: “${queue.paused.reason}”`}</p>`;
    case 'held':
      return html`<p>until <${Time} at=${queue.hold.until} />${queue.hold.reason && html`: “${queue.hold.reason}”`}</p>`;
    case 'counting':
      return html`<p>at <${Time} at=${queue.next_start} />${job && html`: ${job}`}</p>`;
    case 'waiting':
      return html`<p>It takes longer than the interval${job && html`; then ${job}`}</p>`;
    case 'overdue':
      return html`<p>since <${Time} at=${queue.next_start} />: nobody has taken it. Is a worker running?</p>`;
    case 'last':
      return html`<p>Nothing waits after it.</p>`;
    default:
      return html`<p>Nothing waits; the next batch starts when IDs arrive.</p>`;
  }
}

function Running({ running }) {
  if (!running) return html`<p class="running quiet">No batch is running</p>`;
  const { jobs, ids } = asOne([running, ...(running.also ?? [])]);
  return html`
    <p class="running">
      <span class="pulse" aria-hidden="true" />
      Running ${jobs.slice(0, MOST_JOBS).map((id) => html`<a key=${id} href=${hashOf(id)}><code>${short(id)}</code></a>`)}
      ${jobs.length > MOST_JOBS && html`<span>and ${number(jobs.length - MOST_JOBS)} more</span>`}
      <span class="quiet"> ${count(ids.length, 'ID')}, started <${Relative} at=${running.started_at} /></span>
    </p>
  `;
}

function Dial({ state, interval }) {
  const ring = useRef(null);
  const text = useRef(null);
  const unit = useRef(null);
  useEffect(() => {
    return keepDrawing(() => {
      const left = state.until === undefined ? null : Math.max(0, state.until - now());
      const share = left === null ? (['idle', 'unknown'].includes(state.name) ? 0 : 1) : Math.min(1, left / Math.max(interval, 1));
      ring.current.style.strokeDashoffset = String(CIRCUMFERENCE * (1 - share));
      [text.current.textContent, unit.current.textContent] = left === null ? ['', ''] : dialText(left);
      return left !== null;
    });
  }, [state.until, state.name, interval]);
  const glyph = { paused: '❚❚', idle: '–', last: '1', waiting: '…', overdue: '!', unknown: '?' }[state.name];
  return html`
    <div class="dial" role="timer" aria-live="off" aria-label="Time to the next start">
      <svg viewBox="0 0 100 100" aria-hidden="true">
        <circle class="face" cx="50" cy="50" r="44" />
        <circle ref=${ring} class="hand" cx="50" cy="50" r="44" stroke-dasharray=${CIRCUMFERENCE} transform="rotate(-90 50 50)" />
      </svg>
      <span class="dial-text"><b ref=${text} /><small ref=${unit} />${glyph && html`<b class="glyph" aria-hidden="true">${glyph}</b>`}</span>
    </div>
  `;
}

function dialText(ms) {
  if (ms < 60_000) return [isStill() ? String(Math.ceil(ms / 1000)) : (ms / 1000).toFixed(1), 's'];
  if (ms < 3_600_000) return [`${Math.floor(ms / 60_000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, '0')}`, 'min'];
  return [`${Math.floor(ms / 3_600_000)}:${String(Math.floor(ms / 60_000) % 60).padStart(2, '0')}`, 'h'];
}

/** How much of the permitted rate was used of late. */
export function Utilisation() {
  const slots = useStore((state) => state.slots);
  if (!slots) return html`<section class="utilisation" aria-busy="true"><h2>Rate used</h2></section>`;
  const { utilisation, interval, batch_size: size } = slots;
  const pace = interval ? `one batch (${count(size, 'ID')}) every ${number(interval)} s` : `Batches of ${count(size, 'ID')}`;
  const share = utilisation && Math.round(Math.min(1, utilisation.share) * 100);
  return html`
    <section class="utilisation" aria-labelledby="utilisation-title">
      <h2 id="utilisation-title">Rate used</h2>
      ${utilisation
        ? html`
          <p class="figure">${share}<small> %</small></p>
          <div class="meter" role="meter" aria-labelledby="utilisation-title" aria-valuemin="0" aria-valuemax="100" aria-valuenow=${share}>
            <span style=${{ width: `${share}%` }} />
          </div>
          <p class="quiet">of ${pace}<br />over the last ${duration(utilisation.seconds * 1000)}</p>`
        : html`<p class="figure quiet">–</p><p class="quiet">${interval ? 'Nothing seen yet' : 'There is no limit to the rate'}<br />${pace}</p>`}
    </section>
  `;
}
