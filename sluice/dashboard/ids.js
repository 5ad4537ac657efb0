const MAX_ID = 1_000_000_007;
const MOST_PROBLEMS = 5;
const NAME = /^[\p{L}_][\p{L}\p{N}_ .-]*$/u;
const SEPARATORS = /[\s,;]+/;

/** Returns why a token is no ID; null if it is one. */
function problemOf(token) {
  if (!/^\d+$/.test(token)) return 'is not a whole number';
  const value = Number(token);
  return value < 1 || value > MAX_ID ? `is not between 1 and ${MAX_ID.toLocaleString('en')}` : null;
}

/** Collects IDs token by token: the IDs, how many repeat an earlier one, and what is wrong, with its line. */
class Collector {
  ids = [];
  problems = [];
  wrong = 0;
  #seen = new Set();

  add(text, line) {
    for (const token of text.split(SEPARATORS)) {
      if (!token) continue;
      const problem = problemOf(token);
      if (problem === null) {
        const id = Number(token);
        this.ids.push(id);
        this.#seen.add(id);
      } else {
        this.wrong += 1;
        if (this.problems.length < MOST_PROBLEMS) this.problems.push({ token: token.slice(0, 60), line, problem });
      }
    }
  }

  get result() {
    return { ids: this.ids, problems: this.problems, wrong: this.wrong, duplicates: this.ids.length - this.#seen.size };
  }
}

/** Reads IDs that were typed or pasted, separated by spaces, commas, semicolons or lines. */
export function readText(text) {
  const collector = new Collector();
  text.split('\n').forEach((line, index) => collector.add(line, index + 1));
  return collector.result;
}

/** Reads a CSV or text file into rows with their lines, what its columns are called, and which has the IDs. */
export function readTable(text) {
  const { data } = window.Papa.parse(text);
  let line = 1;
  const rows = data.map((cells) => {
    const row = { cells, line };
    line += 1 + cells.reduce((breaks, cell) => breaks + cell.split('\n').length - 1, 0); // quoted ones
    return row;
  });
  const width = rows.reduce((most, { cells }) => Math.max(most, cells.length), 0);
  const first = rows[0]?.cells ?? [];
  const hasHeading = rows.length > 1 && first.some((cell) => cell.trim()) && first.every((cell) => !cell.trim() || NAME.test(cell.trim()));
  const names = Array.from({ length: width }, (_, index) => (hasHeading && first[index]?.trim()) || `column ${index + 1}`);
  const table = { rows: hasHeading ? rows.slice(1) : rows, names, hasHeading };
  return { ...table, column: likelyColumn(table) };
}

// A column that is called ID, or else one that holds IDs only; a lone line is a list.
function likelyColumn({ rows, names, hasHeading }) {
  if (names.length < 2) return 0;
  if (!hasHeading && rows.filter(({ cells }) => cells.some((cell) => cell.trim())).length === 1) return 'all';
  const named = hasHeading ? names.findIndex((name) => /(^|[_ .-])ids?$/i.test(name)) : -1;
  if (named >= 0) return named;
  const sample = rows.slice(0, 200);
  const clean = names.findIndex((_, index) => sample.every(({ cells }) => !cells[index]?.trim() || !problemOf(cells[index].trim())));
  return Math.max(0, clean);
}

/** Returns the IDs in one column of a table, or in all of them. */
export function readColumn({ rows }, column) {
  const collector = new Collector();
  for (const { cells, line } of rows) {
    for (const cell of column === 'all' ? cells : [cells[column] ?? '']) collector.add(cell, line);
  }
  return collector.result;
}
