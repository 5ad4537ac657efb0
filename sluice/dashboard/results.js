import { html, useEffect, useState } from './preact.js';
import * as api from './api.js';
import { Time, count } from './parts.js';

const MOST = 20; // lines
const LONGEST = 400; // characters of an answer

/** The first of the upstream's answers, and the way to all of them. */
export function Results({ of }) {
  const { ingestion_id: id, progress } = of;
  const [{ lines, hasMore }, setState] = useState({ lines: [], hasMore: false });
  const isFull = lines.length === MOST && hasMore;
  useEffect(() => {
    const stop = new AbortController();
    const look = () => api.firstResults(id, MOST, stop.signal).then(setState, (error) => {
      // What is shown stays; that the server is away is said elsewhere.
      if (!stop.signal.aborted && !(error instanceof api.ApiError) && !(error instanceof TypeError)) throw error;
    });
    // A little later, so that a run of finished batches is one look.
    const timer = setTimeout(look, 200);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [id, isFull || progress.completed, progress.failed]);
  return html`
    <section class="results" aria-labelledby="results-title">
      <header>
        <h3 id="results-title">Results</h3>
        <a class="button" id="download" href=${api.resultsPath(id)} download=${`${id}.ndjson`}>Download all (NDJSON)</a>
      </header>
      ${lines.length === 0
        ? html`<p class="nothing">None yet: they come with the first finished batch.</p>`
        : html`
          <div class="scroll" tabIndex="0" role="group" aria-label="Results, to be scrolled">
            <table>
              <thead><tr><th scope="col" class="count">ID</th><th scope="col">Status</th><th scope="col">Answer</th><th scope="col" class="count">Attempts</th><th scope="col">Finished</th></tr></thead>
              <tbody>${lines.map((line, index) => html`<${Line} key=${index} text=${line} />`)}</tbody>
            </table>
          </div>
          ${hasMore && html`<p class="quiet">The first ${count(MOST, 'line')}.</p>`}`}
    </section>
  `;
}

/** Returns the answer as it came: parsed and written again, a large number would be another one. */
function answerIn(text) {
  return text.slice(text.indexOf('"data":') + 7, text.lastIndexOf(',"attempts":'));
}

function Line({ text }) {
  const line = JSON.parse(text);
  const isBad = line.status !== 'completed';
  return html`
    <tr>
      <td class="count">${line.id}</td>
      <td><span class=${isBad ? 'status bad' : 'status'}><span class="mark" aria-hidden="true">${isBad ? '✕' : '✓'}</span>${isBad ? 'Failed' : 'Completed'}</span></td>
      <td class="answer">${isBad ? line.error : html`<code>${answerIn(text).slice(0, LONGEST)}</code>`}</td>
      <td class="count">${line.attempts}</td>
      <td><${Time} at=${line.finished_at} /></td>
    </tr>
  `;
}
