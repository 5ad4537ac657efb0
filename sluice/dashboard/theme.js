// Runs before the first paint, so that the page never flashes in the other theme.
(() => {
  const KEY = 'sluice-theme';
  const root = document.documentElement;

  /** Returns 'light' or 'dark': what is shown now. */
  const current = () => root.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');

  /** Shows the other theme and remembers it; a storage that is switched off only costs the memory. */
  const toggle = () => {
    root.dataset.theme = current() === 'dark' ? 'light' : 'dark';
    try {
      localStorage.setItem(KEY, root.dataset.theme);
    } catch {
      return;
    }
  };

  try {
    const kept = localStorage.getItem(KEY);
    if (kept === 'light' || kept === 'dark') root.dataset.theme = kept;
  } catch {
    // As the system has it, then.
  }
  window.sluiceTheme = { current, toggle };
})();
