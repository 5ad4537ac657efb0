import { html, useEffect, useState } from './preact.js';
import * as api from './api.js';
import { number } from './parts.js';

const PAGE = 1000; // batches
const MOST_PAGES = 5; // that are looked through without being asked
const MOST_SHOWN = 300; // IDs
const NONE = { found: [], looked: 0 };

/** The IDs of an ingestion that failed for good, with what the upstream said last. */
export function Failures({ of }) {
  const { ingestion_id: id, progress } = of;
  const [pages, setPages] = useState(MOST_PAGES);
  const { found, looked } = useFailures(id, progress, pages);
  if (!progress.failed) return null;
  const hasMore = looked < progress.total_batches && found.length < MOST_SHOWN;
  return html`
    <section class="failures" aria-labelledby="failures-title">
      <header><h3 id="failures-title">Failures <span class="quiet">in ${number(progress.failed)} of ${number(progress.total_batches)} batches</span></h3></header>
      <div class="scroll" tabIndex="0" role="group" aria-label="Failures, to be scrolled">
        <table>
          <thead><tr><th scope="col" class="count">ID</th><th scope="col">Error</th><th scope="col" class="count">Attempts</th></tr></thead>
          <tbody>
            ${found.slice(0, MOST_SHOWN).map(({ key, id: item, error, attempts }) => html`
              <tr key=${key}><td class="count">${item}</td><td class="error">${error}</td><td class="count">${attempts}</td></tr>`)}
          </tbody>
        </table>
      </div>
      ${hasMore && html`<p class="quiet">Those of the first ${number(looked)} batches. <button onClick=${() => setPages(pages + MOST_PAGES)}>Look further</button></p>`}
      ${found.length >= MOST_SHOWN && html`<p class="quiet">The first ${number(MOST_SHOWN)}; the results have all of them.</p>`}
    </section>
  `;
}

/** Looks through the batches until as many failed ones are found as there are, or so many pages were looked at. */
function useFailures(id, { failed, total_batches: total }, pages) {
  const [state, setState] = useState(NONE);
  useEffect(() => {
    if (!failed) {
      setState(NONE);
      return undefined;
    }
    const stop = new AbortController();
    const look = async () => {
      const found = [];
      let batches = 0;
      let offset = 0;
      while (offset < total && batches < failed && found.length < MOST_SHOWN && offset < pages * PAGE) {
        const page = await api.status(id, { offset, limit: PAGE }, stop.signal);
        for (const batch of page.batches.filter((each) => each.failed?.length)) {
          batches += batch.status === 'failed';
          found.push(...batch.failed.map((each, index) => ({ ...each, key: `${batch.batch_id}/${index}` })));
        }
        offset += PAGE;
      }
      setState({ found, looked: batches < failed ? Math.min(offset, total) : total });
    };
    // A little later, so that a run of failures is one look.
    const timer = setTimeout(() => look().catch(keepUnless(stop)), 300);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [id, failed, total, pages]);
  return state;
}

// The page says already that the server cannot be reached; what was found stays.
function keepUnless(stop) {
  return (error) => {
    if (!stop.signal.aborted && !(error instanceof api.ApiError)) throw error;
  };
}
