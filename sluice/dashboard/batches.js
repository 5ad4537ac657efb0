import { html } from './preact.js';
import { number, short } from './parts.js';

export const PAGE = 100; // batches
const WORDS = {
  yet_to_start: ['○', 'Waiting'],
  triggered: ['◐', 'Started'],
  completed: ['✓', 'Completed'],
  failed: ['✕', 'Failed'],
  cancelled: ['⊘', 'Cancelled'],
};

/** A page of an ingestion's batches. */
export function Batches({ of, offset, onOffset }) {
  const total = of.progress.total_batches;
  return html`
    <section class="batches" aria-labelledby="batches-title">
      <header>
        <h3 id="batches-title">Batches</h3>
        ${total > PAGE && html`<${Pages} total=${total} offset=${offset} onOffset=${onOffset} />`}
      </header>
      <div class="scroll" tabIndex="0" role="group" aria-label="Batches, to be scrolled">
        <table>
          <thead><tr><th scope="col" class="count">#</th><th scope="col">Batch</th><th scope="col">Status</th><th scope="col">IDs</th></tr></thead>
          <tbody>
            ${of.batches.map((batch, index) => html`<${Batch} key=${batch.batch_id} batch=${batch} at=${offset + index} />`)}
          </tbody>
        </table>
      </div>
    </section>
  `;
}

function Batch({ batch, at }) {
  const [mark, word] = WORDS[batch.status];
  return html`
    <tr data-status=${batch.status}>
      <td class="count quiet">${number(at + 1)}</td>
      <td><code title=${batch.batch_id}>${short(batch.batch_id)}</code></td>
      <td><span class=${batch.status === 'failed' ? 'status bad' : 'status'}><span class="mark" aria-hidden="true">${mark}</span>${word}</span></td>
      <td class="ids">
        ${batch.ids.join(', ')}
        ${batch.retrying?.map(({ id, error, attempts }) => html`<span key=${id} class="again"> ↻ ${id} after ${attempts === 1 ? '1 attempt' : `${attempts} attempts`}: ${error}</span>`)}
      </td>
    </tr>
  `;
}

function Pages({ total, offset, onOffset }) {
  const last = Math.floor((total - 1) / PAGE) * PAGE;
  const go = (to) => () => onOffset(Math.min(last, Math.max(0, to)));
  const jump = (event) => {
    const wanted = Number(event.target.value);
    if (wanted >= 1) onOffset(Math.min(last, Math.floor((wanted - 1) / PAGE) * PAGE));
  };
  return html`
    <nav class="pages" aria-label="Pages of batches">
      <button disabled=${offset === 0} onClick=${go(offset - PAGE)}>← Earlier</button>
      <label>from <input key=${offset} type="number" min="1" max=${total} defaultValue=${offset + 1} onChange=${jump} aria-label="First batch to show" /> to ${number(Math.min(total, offset + PAGE))} of ${number(total)}</label>
      <button disabled=${offset >= last} onClick=${go(offset + PAGE)}>Later →</button>
    </nav>
  `;
}
