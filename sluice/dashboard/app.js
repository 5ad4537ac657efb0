import { html, render, useEffect, useState } from './preact.js';
import { Backlog } from './backlog.js';
import { SlotClock, Utilisation } from './clock.js';
import { DialogHost } from './dialogs.js';
import { Ingestion } from './ingestion.js';
import { Ingestions } from './ingestions.js';
import { start, switchLane } from './live.js';
import { useStore } from './store.js';
import { Submit } from './submit.js';
import { clockTime, utc } from './time.js';
import { Timeline } from './timeline.js';

const ROUTE = /^#\/ingestions\/([\w-]+)$/;

/** Returns the ingestion that the address is about; null for the list. */
function routeOf() {
  return ROUTE.exec(location.hash)?.[1] ?? null;
}

function useRoute() {
  const [route, setRoute] = useState(routeOf);
  useEffect(() => {
    const follow = () => setRoute(routeOf());
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  return route;
}

function App() {
  const route = useRoute();
  const [isFirst, setFirst] = useState(true);
  useEffect(() => {
    if (route) setFirst(false);
    else {
      document.title = 'Sluice';
      if (!isFirst) document.getElementById('ingestions-title').focus({ preventScroll: true });
    }
  }, [route]);
  return html`
    <a class="skip" href="#submit-title" onClick=${skipTo('submit-title')}>Skip to the form</a>
    <${Header} />
    <main>
      <h1 class="hidden">Sluice</h1>
      <${LaneProblem} />
      <div class="overview"><${SlotClock} /><${Backlog} /><${Utilisation} /></div>
      <${Timeline} shown=${route} />
      <div class="work">
        ${route ? html`<${Ingestion} key=${route} id=${route} />` : html`<${Ingestions} />`}
        <${Submit} />
      </div>
    </main>
    <${DialogHost} />
  `;
}

// The fragment is the route's, so a jump inside the page has to be made.
function skipTo(id) {
  return (event) => {
    event.preventDefault();
    document.getElementById(id).focus();
  };
}

function Header() {
  return html`
    <header class="top">
      <a class="brand" href="#/" aria-label="Sluice: all ingestions"><img src="/dashboard/icon.svg" alt="" width="22" height="22" /><b>Sluice</b></a>
      <${Lanes} />
      <${Connection} />
      <nav aria-label="Elsewhere">
        <a class="to-form" href="#submit-title" onClick=${skipTo('submit-title')}>Submit</a>
        <a href="/docs">API</a>
      </nav>
      <${Theme} />
    </header>
  `;
}

function Lanes() {
  const lane = useStore((state) => state.lane);
  const lanes = useStore((state) => state.lanes);
  if (lanes.length < 2) return null;
  return html`
    <label class="lanes"><span>Lane</span>
      <select id="lane" aria-label="Lane" value=${lane} onChange=${(event) => switchLane(event.target.value)}>
        ${lanes.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}
      </select>
    </label>
  `;
}

/** How true what is shown is: told as it happens, asked for now and then, or a while old. */
function Connection() {
  const connection = useStore((state) => state.connection);
  const loadedAt = useStore((state) => state.loadedAt);
  const [text, title] = {
    connecting: ['Connecting…', ''],
    live: ['Live', 'Told by the server as it happens'],
    polling: ['Reconnecting: polling every 3 s', 'The stream of events is cut; the server is asked instead'],
    down: [
      loadedAt ? `Server unreachable, showing what was known at ${clockTime(loadedAt)}` : 'Server unreachable',
      loadedAt ? utc(loadedAt) : '',
    ],
  }[connection];
  return html`<p class="connection" id="connection" role="status" data-state=${connection} title=${title}><i aria-hidden="true" />${text}</p>`;
}

function LaneProblem() {
  const loadError = useStore((state) => state.loadError);
  const lane = useStore((state) => state.lane);
  const isKnown = useStore((state) => Boolean(state.queue));
  if (!loadError || isKnown || lane === 'default') return null;
  return html`<p class="problem" role="alert"><span>${loadError} <a href="/">Show the lane default</a></span></p>`;
}

function Theme() {
  const [theme, setTheme] = useState(window.sluiceTheme.current());
  const toggle = () => {
    window.sluiceTheme.toggle();
    setTheme(window.sluiceTheme.current());
  };
  return html`<button id="theme" class="plain" aria-label="Dark theme" aria-pressed=${theme === 'dark'} title="Light or dark" onClick=${toggle}>${theme === 'dark' ? '☾' : '☀'}</button>`;
}

render(html`<${App} />`, document.getElementById('app'));
start();
