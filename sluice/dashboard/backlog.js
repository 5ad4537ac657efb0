import { html } from './preact.js';
import { Moment, PRIORITIES, Priority, count, number } from './parts.js';
import { useStore } from './store.js';

/** What waits, by priority, and when all of it will have started. */
export function Backlog() {
  const queue = useStore((state) => state.queue);
  const drained = useStore((state) => state.drained);
  if (!queue) return html`<section class="backlog" aria-busy="true"><h2>Waiting</h2></section>`;
  const total = Object.values(queue.waiting).reduce((sum, each) => sum + each, 0);
  return html`
    <section class="backlog" aria-labelledby="backlog-title">
      <h2 id="backlog-title">Waiting <span class="quiet">${count(total, 'batch', 'batches')}</span></h2>
      <dl>
        ${PRIORITIES.map((each) => html`
          <div key=${each} id=${`waiting-${each.toLowerCase()}`} data-priority=${each} data-is-empty=${!queue.waiting[each]}>
            <dt><${Priority} of=${each} /></dt>
            <dd class="figure">${number(queue.waiting[each])}</dd>
            <dd class="share" aria-hidden="true"><span style=${{ width: `${total ? (queue.waiting[each] / total) * 100 : 0}%` }} /></dd>
          </div>`)}
      </dl>
      <p class="quiet" id="retrying">
        ${queue.retrying > 0 && html`<span class="mark" aria-hidden="true">↻</span> ${count(queue.retrying, 'ingestion')} with IDs to be tried again. `}
        ${total + queue.retrying > 0 && (drained ? html`Next free slot at <${Moment} at=${drained} isExpected />` : 'Until it is resumed, nobody knows when.')}
        ${total + queue.retrying === 0 && 'Nothing waits: new work starts in the next free slot.'}
      </p>
    </section>
  `;
}
