import { html, useEffect, useMemo, useRef, useState } from './preact.js';
import * as api from './api.js';
import { readColumn, readTable, readText } from './ids.js';
import { refresh } from './live.js';
import { Moment, PRIORITIES, Priority, Problem, Time, count, hashOf, number, short } from './parts.js';
import { update, useStore } from './store.js';

const DEBOUNCE = 250; // ms
const LARGEST_FILE = 64 * 1024 * 1024; // bytes
const NO_IDS = { ids: [], problems: [], wrong: 0, duplicates: 0 };

/** The form that submits IDs, and says before that when they would be done. */
export function Submit() {
  const lane = useStore((state) => state.lane);
  const [text, setText] = useState('');
  const [file, setFile] = useState(null); // {name, table, column}
  const [priority, setPriority] = useState('MEDIUM');
  const [problem, setProblem] = useState(null);
  const [accepted, setAccepted] = useState(null); // {id, total}
  const [isBusy, setBusy] = useState(false);
  const link = useRef(null);
  const read = useRead(text, file);
  const keyFor = useKey();
  const total = read.ids.length;
  const forecast = useForecast(lane, total);
  const isReady = total > 0 && !read.wrong && !isBusy;

  useEffect(() => {
    link.current?.focus();
  }, [accepted]);

  const edit = (set) => (value) => {
    set(value);
    setProblem(null);
    setAccepted(null);
  };

  const submit = async (event) => {
    event.preventDefault();
    if (!isReady) return;
    setBusy(true);
    setProblem(null);
    const body = JSON.stringify({ ids: read.ids, priority, lane });
    try {
      const { ingestion_id: id } = await api.ingest(body, keyFor(body));
      keyFor(null);
      setText('');
      setFile(null);
      setAccepted({ id, total, priority });
      update({ submitted: id });
      refresh();
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      setProblem(error.isLost ? `${error.message} Whether the IDs were accepted is not known. Submit again: they will not be accepted twice.` : error.message);
    }
    setBusy(false);
  };

  return html`
    <section class="submit" aria-labelledby="submit-title">
      <h2 id="submit-title" tabIndex="-1">Submit IDs</h2>
      <form onSubmit=${submit}>
        <${Source} text=${text} onText=${edit(setText)} file=${file} onFile=${edit(setFile)} onProblem=${setProblem} />
        <${Count} read=${read} forecast=${forecast.answer} />
        <fieldset class="cards">
          <legend>Priority, and when it would be done</legend>
          ${PRIORITIES.map((each) => html`<${Card} key=${each} of=${each} isChosen=${priority === each} onChoose=${() => setPriority(each)} forecast=${forecast.answer?.forecasts[each]} />`)}
        </fieldset>
        ${forecast.problem && html`<${Problem}>${forecast.problem}<//>`}
        ${problem && html`<${Problem}>${problem}<//>`}
        <button type="submit" id="submit" class="primary wide" disabled=${!isReady}>${isBusy ? 'Submitting…' : total ? `Submit ${count(total, 'ID')}` : 'Submit'}</button>
        <p class="accepted" role="status">
          ${accepted && html`<span class="mark" aria-hidden="true">✓</span> ${count(accepted.total, 'ID')} accepted as <a ref=${link} href=${hashOf(accepted.id)}><code>${short(accepted.id)}</code></a>`}
        </p>
      </form>
    </section>
  `;
}

function useRead(text, file) {
  return useMemo(() => {
    if (file) return readColumn(file.table, file.column);
    return text.trim() ? readText(text) : NO_IDS;
  }, [text, file]);
}

/** A key per filled form: the same for the same body until it is accepted, so that sending it again is safe. */
function useKey() {
  const kept = useRef({ body: null, key: null });
  return (body) => {
    if (body !== kept.current.body) kept.current = { body, key: randomKey() };
    return kept.current.key;
  };
}

// Not `crypto.randomUUID`: it is only there with TLS or on localhost.
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** When so many IDs would be done, asked again whenever something happened. */
function useForecast(lane, total) {
  const revision = useStore((state) => state.revision);
  const [result, setResult] = useState({});
  const asked = useRef({});
  useEffect(() => {
    if (!total) {
      asked.current = {};
      setResult({});
      return undefined;
    }
    const isNew = asked.current.total !== total || asked.current.lane !== lane;
    asked.current = { total, lane };
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        setResult({ answer: await api.forecast(lane, total, stop.signal) });
      } catch (error) {
        if (!stop.signal.aborted) setResult({ problem: error.message });
      }
    }, isNew ? DEBOUNCE : 0);
    return () => {
      clearTimeout(timer);
      if (isNew) stop.abort();
    };
  }, [lane, total, revision]);
  const isOther = result.answer && (result.answer.total_ids !== total || result.answer.lane !== lane);
  return isOther ? {} : result;
}

function Card({ of, isChosen, onChoose, forecast }) {
  return html`
    <label class="card" data-priority=${of} data-is-chosen=${isChosen}>
      <input type="radio" name="priority" value=${of} checked=${isChosen} onChange=${onChoose} />
      <${Priority} of=${of} />
      <span class="when" id=${`forecast-${of.toLowerCase()}`}>
        ${!forecast && html`<span class="quiet">–</span>`}
        ${forecast && (forecast.expected_completion ? html`<${Moment} at=${forecast.expected_completion} isExpected />` : html`<span class="quiet">when resumed</span>`)}
      </span>
      <span class="quiet place">
        ${forecast && (forecast.position ? `after ${count(forecast.position, 'batch', 'batches')}` : 'next in line')}
        ${forecast?.expected_start && html`, from <${Time} at=${forecast.expected_start} />`}
      </span>
    </label>
  `;
}

function Count({ read, forecast }) {
  const { ids, problems, wrong, duplicates } = read;
  return html`
    <div class="count" id="count">
      <p>
        <b>${number(ids.length)}</b> ${ids.length === 1 ? 'ID' : 'IDs'}
        ${forecast && html`<span class="quiet"> in ${count(forecast.total_batches, 'batch', 'batches')}</span>`}
        ${duplicates > 0 && html`<span class="quiet">, ${count(duplicates, 'duplicate')} (kept)</span>`}
      </p>
      ${wrong > 0 && html`
        <div class="problems" role="alert"><ul>
          ${problems.map(({ token, line, problem }, index) => html`<li key=${index}>Line ${number(line)}: <code>${token}</code> ${problem}.</li>`)}
          ${wrong > problems.length && html`<li>and ${number(wrong - problems.length)} more</li>`}
        </ul></div>`}
    </div>
  `;
}

function Source({ text, onText, file, onFile, onProblem }) {
  const [isOver, setOver] = useState(false);
  const take = async (chosen) => {
    if (!chosen) return;
    if (chosen.size > LARGEST_FILE) {
      onProblem(`${chosen.name} is larger than 64 MiB; split it.`);
      return;
    }
    const table = readTable(await chosen.text());
    onFile({ name: chosen.name, table, column: table.column });
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files[0]);
  };
  const over = (event) => {
    event.preventDefault();
    setOver(true);
  };
  return html`
    <div class="source" data-is-over=${isOver} onDragOver=${over} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      ${file ? html`<${File} file=${file} onFile=${onFile} />` : html`
        <label class="field" for="ids">IDs</label>
        <textarea id="ids" rows="3" spellcheck=${false} autocomplete="off" placeholder="1, 2, 3 … or drop a CSV file here" value=${text} onInput=${(event) => onText(event.target.value)} aria-describedby="count" />
        <label class="file">
          <input type="file" id="file" accept=".csv,.tsv,.txt,text/*" onChange=${(event) => take(event.target.files[0])} />
          <span>Choose a file…</span>
        </label>`}
    </div>
  `;
}

function File({ file, onFile }) {
  const { name, table, column } = file;
  const pick = (value) => onFile({ ...file, column: value === 'all' ? value : Number(value) });
  return html`
    <div class="chosen-file">
      <p><code>${name}</code><button type="button" onClick=${() => onFile(null)}>Remove</button></p>
      ${table.names.length > 1 && html`
        <label class="field">IDs are in
          <select id="column" value=${column} onChange=${(event) => pick(event.target.value)}>
            ${table.names.map((each, index) => html`<option key=${index} value=${index}>${each}</option>`)}
            <option value="all">all columns</option>
          </select>
        </label>`}
      ${table.hasHeading && html`<p class="quiet">The first line was taken for headings.</p>`}
    </div>
  `;
}
