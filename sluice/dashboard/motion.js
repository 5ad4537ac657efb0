const SECOND = 1000; // ms
const reduced = matchMedia('(prefers-reduced-motion: reduce)');

/** Returns whether less motion was asked for. */
export const isStill = () => reduced.matches;

/**
 * Calls `draw` now and before every frame, or every second where less motion was asked for, until it returns false.
 * Returns what ends it.
 */
export function keepDrawing(draw) {
  let frame = 0;
  let timer = 0;
  const step = () => {
    if (draw() === false) return;
    if (isStill()) timer = setTimeout(step, SECOND);
    else frame = requestAnimationFrame(step);
  };
  step();
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
  };
}
