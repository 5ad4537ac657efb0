import { html, useEffect, useLayoutEffect, useRef, useState } from './preact.js';
import { askToCancel, askToReprioritise, askToRetry } from './actions.js';
import * as api from './api.js';
import { Batches, PAGE } from './batches.js';
import { withEvent } from './data.js';
import { Failures } from './failures.js';
import { Completion } from './ingestions.js';
import { switchLane } from './live.js';
import { Moment, Priority, Problem, Progress, Status, number, short } from './parts.js';
import { Results } from './results.js';
import { useCan } from './session.js';
import { useStore } from './store.js';

/** All about one ingestion. */
export function Ingestion({ id }) {
  const [offset, setOffset] = useState(0);
  const { ingestion, problem } = useIngestion(id, offset);
  const can = useCan();
  const heading = useRef(null);
  const isKnown = Boolean(ingestion);

  useLayoutEffect(() => {
    document.title = `${short(id)} · Sluice`;
    heading.current.focus({ preventScroll: true });
    heading.current.scrollIntoView({ block: 'nearest' });
  }, [id]);

  return html`
    <section class="ingestion" aria-labelledby="ingestion-title" aria-busy=${!isKnown && !problem}>
      <p class="back"><a href="#/">← All ingestions</a></p>
      <header>
        <h2 id="ingestion-title" ref=${heading} tabIndex="-1"><span class="hidden">Ingestion </span><code>${id}</code></h2>
        ${ingestion && can.steer && html`<${Actions} of=${ingestion} />`}
      </header>
      ${problem && html`<${Problem}>${problem}<//>`}
      ${ingestion && html`
        <${Summary} of=${ingestion} />
        <${Failures} of=${ingestion} />
        <${Batches} of=${ingestion} offset=${offset} onOffset=${setOffset} />
        <${Results} of=${ingestion} />
      `}
      ${!isKnown && !problem && html`<p class="nothing">Loading…</p>`}
    </section>
  `;
}

/** Loads an ingestion whenever the rest of the page is loaded, and lets events bring it up to date in between. */
function useIngestion(id, offset) {
  const revision = useStore((state) => state.revision);
  const told = useStore((state) => state.told);
  const [state, setState] = useState({});
  useEffect(() => {
    const stop = new AbortController();
    const load = async () => {
      try {
        const ingestion = await api.status(id, { offset, limit: PAGE }, stop.signal);
        setState({ ingestion });
        switchLane(ingestion.lane);
      } catch (error) {
        if (stop.signal.aborted) return;
        setState((before) => ({ ingestion: error.status === 404 ? null : before.ingestion, problem: error.message }));
      }
    };
    load();
    return () => stop.abort();
  }, [id, offset, revision]);
  useEffect(() => {
    const event = told?.get(id);
    if (event) setState((before) => before.ingestion ? { ...before, ingestion: withEvent(before.ingestion, event) } : before);
  }, [told]);
  return state;
}

function Actions({ of }) {
  const isDone = of.status === 'completed';
  return html`
    <div class="buttons">
      ${of.progress.failed > 0 && html`<button id="retry" onClick=${() => askToRetry(of)}>Retry failures…</button>`}
      ${!isDone && html`<button id="reprioritise" onClick=${() => askToReprioritise(of)}>Change priority…</button>`}
      ${!isDone && html`<button id="cancel" class="danger" onClick=${() => askToCancel(of)}>Cancel…</button>`}
    </div>
  `;
}

function Summary({ of }) {
  const { progress } = of;
  const isDone = of.status === 'completed';
  const counts = [
    ['Waiting', progress.yet_to_start],
    ['Under way', progress.triggered],
    ['Completed', progress.completed],
    ['Failed', progress.failed],
    ['Cancelled', progress.cancelled],
  ];
  return html`
    <div class="summary">
      <dl class="facts">
        <div><dt>Priority</dt><dd><${Priority} of=${of.priority} /></dd></div>
        <div><dt>Status</dt><dd><${Status} of=${of} /></dd></div>
        <div><dt>${isDone ? 'Done' : 'Expected to be done'}</dt><dd id="completion"><${Completion} of=${of} /></dd></div>
        <div><dt>Batches ahead</dt><dd>${of.position === null ? '–' : number(of.position)}</dd></div>
        <div><dt>Next start</dt><dd>${of.expected_start ? html`<${Moment} at=${of.expected_start} />` : '–'}</dd></div>
        <div><dt>Submitted</dt><dd><${Moment} at=${of.created_time} /></dd></div>
        ${of.owner && html`<div><dt>Submitted with the key</dt><dd id="owner">${of.owner}</dd></div>`}
        <div><dt>IDs</dt><dd>${number(progress.total_ids)}</dd></div>
        <div><dt>Lane</dt><dd>${of.lane}</dd></div>
      </dl>
      <${Progress} of=${progress} priority=${of.priority} />
      <ul class="tally" aria-label="Batches by status">
        ${counts.map(([name, value]) => html`<li key=${name} data-is-empty=${!value}><b>${number(value)}</b> ${name.toLowerCase()}</li>`)}
        <li class="quiet">of ${number(progress.total_batches)} batches</li>
      </ul>
    </div>
  `;
}
