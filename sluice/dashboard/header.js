import { html, useState } from './preact.js';
import { ApiError } from './api.js';
import { switchLane } from './live.js';
import { Problem, skipTo } from './parts.js';
import { signOut, useCan } from './session.js';
import { useStore } from './store.js';
import { clockTime, utc } from './time.js';

/** The top of the page: what is shown, how true that is, and to whom. */
export function Header() {
  const isIn = useStore((state) => state.session.is === 'in');
  return html`
    <header class="top">
      <a class="brand" href="#/" aria-label="Sluice: all ingestions"><img src="/dashboard/icon.svg" alt="" width="22" height="22" /><b>Sluice</b></a>
      ${isIn && html`<${Lanes} /><${Connection} /><${Elsewhere} /><${SignedIn} />`}
      <${Theme} />
    </header>
  `;
}

function Elsewhere() {
  const can = useCan();
  return html`
    <nav aria-label="Elsewhere">
      ${can.submit && html`<a class="to-form" href="#submit-title" onClick=${skipTo('submit-title')}>Submit</a>`}
      <a href="/docs">API</a>
    </nav>
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
    asked: ['Updated every 3 s', 'The stream of events is not for this key; the server is asked instead'],
    down: [
      loadedAt ? `Server unreachable, showing what was known at ${clockTime(loadedAt)}` : 'Server unreachable',
      loadedAt ? utc(loadedAt) : '',
    ],
  }[connection];
  return html`<p class="connection" id="connection" role="status" data-state=${connection} title=${title}><i aria-hidden="true" />${text}</p>`;
}

/** Whose key the page uses; nothing where none is needed. */
function SignedIn() {
  const { name, role } = useStore((state) => state.session);
  const [problem, setProblem] = useState('');
  if (name === null) return null;
  const leave = () => signOut().catch((error) => {
    if (!(error instanceof ApiError)) throw error;
    setProblem(`Still signed in. ${error.message}`);
  });
  return html`
    <div class="signed-in">
      <p id="signed-in" title=${name}><span class="hidden">Signed in with the key </span><b>${name}</b> <span class="quiet">${role}</span></p>
      <button id="sign-out" onClick=${leave}>Sign out</button>
    </div>
    ${problem && html`<${Problem}>${problem}<//>`}
  `;
}

function Theme() {
  const [theme, setTheme] = useState(window.sluiceTheme.current());
  const toggle = () => {
    window.sluiceTheme.toggle();
    setTheme(window.sluiceTheme.current());
  };
  return html`<button id="theme" class="plain" aria-label="Dark theme" aria-pressed=${theme === 'dark'} title="Light or dark" onClick=${toggle}>${theme === 'dark' ? '☾' : '☀'}</button>`;
}
