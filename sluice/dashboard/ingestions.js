import { html } from './preact.js';
import { showList } from './data.js';
import { refresh } from './live.js';
import { Moment, PRIORITIES, Priority, Problem, Progress, Status, Time, hashOf, number, short } from './parts.js';
import { useCan } from './session.js';
import { update, useStore } from './store.js';

const STATUSES = { '': 'All', triggered: 'In progress', yet_to_start: 'Waiting', completed: 'Completed' };

/** The ingestions, newest first, as the filters and the page let them through. */
export function Ingestions() {
  const list = useStore((state) => state.list);
  const view = useStore((state) => state.view);
  const loadError = useStore((state) => state.loadError);
  const isFiltered = Boolean(view.status || view.priority || view.cursors.length);
  const items = list?.ingestions ?? [];
  return html`
    <section class="ingestions" aria-labelledby="ingestions-title" aria-busy=${!list}>
      <header>
        <h2 id="ingestions-title" tabIndex="-1">Ingestions</h2>
        <${Filters} view=${view} />
      </header>
      ${items.length > 0 && html`<${Table} items=${items} />`}
      ${list && items.length === 0 && (isFiltered ? html`<p class="nothing">None ${list.next_cursor ? 'on this page' : 'that match'}.</p>` : html`<${Welcome} />`)}
      ${!list && (loadError ? html`<${Problem}>${loadError}<//>` : html`<p class="nothing">Loading…</p>`)}
      ${(view.cursors.length > 0 || list?.next_cursor) && html`<${Pages} view=${view} next=${list?.next_cursor} />`}
    </section>
  `;
}

function change(changes) {
  showList(changes);
  refresh();
}

function Filters({ view }) {
  return html`
    <form class="filters" onSubmit=${(event) => event.preventDefault()}>
      <fieldset class="segments">
        <legend class="hidden">Status</legend>
        ${Object.entries(STATUSES).map(([value, text]) => html`
          <label key=${value}>
            <input type="radio" name="status" value=${value} checked=${view.status === value} onChange=${() => change({ status: value, cursors: [] })} />
            <span>${text}</span>
          </label>`)}
      </fieldset>
      <label class="select"><span class="hidden">Priority</span>
        <select id="filter-priority" value=${view.priority} onChange=${(event) => change({ priority: event.target.value, cursors: [] })}>
          <option value="">Every priority</option>
          ${PRIORITIES.map((each) => html`<option key=${each} value=${each}>${each[0]}${each.slice(1).toLowerCase()}</option>`)}
        </select>
      </label>
    </form>
  `;
}

function Table({ items }) {
  const lit = useStore((state) => state.lit);
  const fresh = useStore((state) => state.submitted);
  // The roles are said as well: the phone's layout takes them away from the elements.
  return html`
    <table role="table" aria-labelledby="ingestions-title">
      <thead role="rowgroup">
        <tr role="row">${['Ingestion', 'Priority', 'Status', 'Progress', 'Ahead', 'Done'].map((name) => html`<th key=${name} role="columnheader" scope="col">${name}</th>`)}</tr>
      </thead>
      <tbody role="rowgroup">
        ${items.map((each) => html`<${Row} key=${each.ingestion_id} of=${each} isLit=${lit === each.ingestion_id} isFresh=${fresh === each.ingestion_id} />`)}
      </tbody>
    </table>
  `;
}

function Row({ of, isLit, isFresh }) {
  const { ingestion_id: id, priority, progress, position } = of;
  const done = progress.completed + progress.failed + progress.cancelled;
  const point = (lit) => () => update({ lit });
  return html`
    <tr role="row" data-ingestion=${id} data-is-lit=${isLit} data-is-fresh=${isFresh} onMouseEnter=${point(id)} onMouseLeave=${point(null)}>
      <td role="cell" class="id"><a href=${hashOf(id)} title=${id} onFocus=${point(id)} onBlur=${point(null)}><code>${short(id)}</code></a></td>
      <td role="cell" class="of-priority"><${Priority} of=${priority} /></td>
      <td role="cell" class="of-status"><${Status} of=${of} /></td>
      <td role="cell" class="of-progress"><${Progress} of=${progress} priority=${priority} /><span class="counts">${number(done)}<span class="quiet">/${number(progress.total_batches)}</span></span></td>
      <td role="cell" class="position">${position === null ? html`<span class="quiet">–</span>` : html`${number(position)}<span class="unit quiet"> ahead</span>`}</td>
      <td role="cell" class="completion"><${Completion} of=${of} /></td>
    </tr>
  `;
}

/** When an ingestion was, or will be, done. */
export function Completion({ of }) {
  if (of.status === 'completed') return html`<span class="quiet">${of.finished_time ? html`<${Time} at=${of.finished_time} />` : '–'}</span>`;
  if (of.expected_completion === null) return html`<span class="quiet">when resumed</span>`;
  return html`<${Moment} at=${of.expected_completion} isExpected />`;
}

function Pages({ view, next }) {
  return html`
    <nav class="pages" aria-label="Pages of ingestions">
      <button disabled=${!view.cursors.length} onClick=${() => change({ cursors: view.cursors.slice(0, -1) })}>← Newer</button>
      <span class="quiet">Page ${view.cursors.length + 1}</span>
      <button disabled=${!next} onClick=${() => change({ cursors: [...view.cursors, next] })}>Older →</button>
    </nav>
  `;
}

function Welcome() {
  const lane = useStore((state) => state.lane);
  const needsKey = useStore((state) => state.session.name !== null);
  const can = useCan();
  const title = `Nothing has been submitted${can.watch ? '' : ' with this key'}${lane === 'default' ? '' : ` to ${lane}`} yet`;
  if (!can.submit) return html`<p class="nothing">${title}. What is submitted shows up here at once.</p>`;
  const body = { ids: [1, 2, 3, 4, 5], priority: 'HIGH', ...(lane === 'default' ? {} : { lane }) };
  const key = needsKey ? '-H "Authorization: Bearer $SLUICE_KEY" ' : '';
  const command = `curl ${location.origin}/ingest ${key}-H 'Content-Type: application/json' -d '${JSON.stringify(body)}'`;
  return html`
    <div class="welcome">
      <h3>${title}</h3>
      <p>Enter IDs in the form, drop a CSV file on it, or submit from a shell:</p>
      <pre tabIndex="0" aria-label="Command"><code>${command}</code></pre>
      <p class="quiet">Each batch takes a slot. What is submitted shows up here at once, with the time at which it will be done. <a href="/docs">The whole API</a></p>
    </div>
  `;
}
