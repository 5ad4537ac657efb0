// What of the live page can be said without a browser: how IDs are read, how slots are placed, how times are told.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

globalThis.window = { Papa: createRequire(import.meta.url)('papaparse') };
globalThis.location = { search: '' };

const { readColumn, readTable, readText } = await import('../../sluice/dashboard/ids.js');
const { sharing } = await import('../../sluice/dashboard/slot_text.js');
const { layOut } = await import('../../sluice/dashboard/timeline_layout.js');
const { duration, heard, now, relative } = await import('../../sluice/dashboard/time.js');

const fromFile = (text) => {
  const table = readTable(text);
  return { table, ...readColumn(table, table.column) };
};

test('IDs are separated by commas, semicolons, spaces and lines, and duplicates are kept', () => {
  const { ids, duplicates, wrong } = readText('1, 2;3 4\n\n5\t1\r\n');
  assert.deepEqual(ids, [1, 2, 3, 4, 5, 1]);
  assert.deepEqual([duplicates, wrong], [1, 0]);
});

test('IDs go from 1 to 1,000,000,007', () => {
  assert.deepEqual(readText('1 1000000007').ids, [1, 1_000_000_007]);
  for (const token of ['0', '1000000008', '-1', '1.5', '1e3', '0x10', 'one', '99999999999999999999']) {
    assert.equal(readText(token).wrong, 1, token);
  }
});

test('a wrong token is named with its line, and only the first few of many', () => {
  const { problems, wrong, ids } = readText(`7\n<script>alert(1)</script>\n${'x\n'.repeat(50)}`);
  assert.deepEqual(ids, [7]);
  assert.deepEqual([problems[0].token, problems[0].line], ['<script>alert(1)</script>', 2]);
  assert.equal(wrong, 51);
  assert.ok(problems.length < 10);
});

test('a heading is passed over, but nothing else that is no ID', () => {
  assert.deepEqual(fromFile('id\n1\n2\n').ids, [1, 2]);
  assert.equal(fromFile('<script>alert(1)</script>\n1\n2\n').problems[0].line, 1);
});

test('of several columns the one that is called id is taken, else the first that holds IDs alone', () => {
  assert.equal(fromFile('name,item_id,price\na,1,5\nb,2,6\n').table.column, 1);
  assert.equal(fromFile('name,number\na,1\nb,2\n').table.column, 1);
  assert.deepEqual(fromFile('a;7\nb;8\n').ids, [7, 8]);
});

test('a lone line of numbers is a list', () => {
  assert.deepEqual(fromFile('1,2,3,4\n').ids, [1, 2, 3, 4]);
});

test('lines are counted through line breaks in quotes', () => {
  const { problems } = fromFile('id,name\n1,"a\nb"\nbad-id,c\n');
  assert.deepEqual([problems[0].token, problems[0].line], ['bad-id', 4]);
});

const at = (seconds) => new Date(1_000_000_000_000 + seconds * 1000).toISOString();
const slot = (batch, more) => ({ ingestion_id: 'i', batch_ids: [batch], ids: [1], is_retry: false, priority: 'LOW', ...more });
const place = (slots) => layOut({ interval: 5, past: [], coming: [], ...slots }, {
  slotWidth: 50, origin: 1_000_000_000_000, from: () => 1_000_000_000_000 - 100_000, until: () => 1_000_000_000_000 + 100_000, time: 1_000_000_000_000,
});

test('a slot is as wide as the interval, and where its time is', () => {
  const { placed } = place({ past: [slot('a', { started_at: at(-10), finished_at: at(-8) })], coming: [slot('b', { expected_start: at(5) })] });
  assert.deepEqual(placed.map(({ left, kind }) => [left, kind]), [[-100, 'past'], [50, 'coming']]);
  assert.deepEqual([placed[0].width, placed[0].used], [48, 20]);
});

test('a batch keeps its key when its time comes, and its retry has another', () => {
  const before = place({ coming: [slot('a', { expected_start: at(5) })] }).placed[0].key;
  const { placed } = place({
    past: [slot('a', { started_at: at(-5), finished_at: at(-4) }), slot('a', { started_at: at(0), finished_at: null, is_retry: true })],
  });
  assert.equal(placed[0].key, before);
  assert.equal(new Set(placed.map(({ key }) => key)).size, 2);
});

test('while paused no slot to come is given a time', () => {
  const { placed, parked } = place({ coming: [slot('a', { expected_start: null }), slot('b', { expected_start: null })] });
  assert.deepEqual([placed.length, parked.map(({ left }) => left)], [0, [0, 50]]);
});

test('without an interval slots are as far apart as the forecast has them', () => {
  const { placed } = place({ interval: 0, coming: [1, 2, 3].map((second) => slot(`b${second}`, { expected_start: at(second) })) });
  assert.equal(placed[1].left - placed[0].left, 48);
});

test('what shares a slot is one block with a part for each, and the others are as ever', () => {
  const times = { started_at: at(-5), finished_at: at(-4) };
  const { placed } = place({
    past: [slot('a', times), slot('b', { ...times, ids: [2], ingestion_id: 'j', failed: 1 }), slot('c', { started_at: at(0), finished_at: null })],
    coming: [slot('d', { expected_start: at(5) }), slot('e', { expected_start: at(5), priority: 'HIGH' }), slot('f', { expected_start: at(10) })],
  });
  assert.deepEqual(placed.map(({ kind, parts }) => [kind, parts.length]), [['past', 2], ['running', 1], ['coming', 2], ['coming', 1]]);
  assert.deepEqual([placed[0].ids, placed[0].jobs, placed[0].failed], [[1, 2], ['i', 'j'], 1]);
  assert.equal(new Set(placed.flatMap(({ parts }) => parts.map(({ key }) => key))).size, 6);
  assert.equal(placed[2].left - placed[1].left, 50);
});

test('a shared slot is said to be one, with its IDs', () => {
  const { placed } = place({ coming: [1, 2, 3].map((id) => slot(`b${id}`, { ids: [id], ingestion_id: `i${id}`, expected_start: at(5) })) });
  assert.equal(placed.length, 1);
  assert.equal(sharing(placed[0]), '3 jobs: 1, 2, 3');
});

test('while paused nothing is said to share a slot', () => {
  const { parked } = place({ coming: [slot('a', { expected_start: null }), slot('b', { expected_start: null })] });
  assert.deepEqual(parked.map(({ parts }) => parts.length), [1, 1]);
});

test('what is too much for a slot does not share one, though all is expected at once', () => {
  const ids = [1, 2];
  const coming = ['a', 'b', 'c'].map((batch) => slot(batch, { ids, expected_start: at(5) }));
  assert.equal(place({ batch_size: 3, coming }).placed.length, 3);
  assert.deepEqual(place({ batch_size: 4, coming }).placed.map(({ parts }) => parts.length), [2, 1]);
});

test('without an interval the slots that are shared are still as far apart as the forecast has them', () => {
  const coming = [1, 1, 1, 2, 2, 2, 3].map((second, index) => slot(`b${index}`, { expected_start: at(second) }));
  const { placed } = place({ interval: 0, coming });
  assert.deepEqual(placed.map(({ parts }) => parts.length), [3, 3, 1]);
  assert.equal(placed[1].left - placed[0].left, 48);
});

test('times are told by their two largest units', () => {
  const words = (text) => text.replaceAll('\u00a0', ' ');
  assert.equal(words(duration(130_000)), '2 min 10 s');
  assert.equal(words(duration(3_600_000)), '1 h');
  assert.equal(words(duration(90_061_000)), '1 d 1 h');
  assert.equal(words(duration(0)), '0 s');
  assert.equal(words(relative(5000, 0)), 'in 5 s');
  assert.equal(words(relative(0, 5000)), '5 s ago');
  assert.equal(relative(0, 100), 'now');
});

test("the server's clock is followed from the latest time that it told", () => {
  const ahead = Date.now() + 3_600_000;
  heard(new Date(ahead).toISOString());
  heard(new Date(ahead - 900).toISOString()); // told with a coarser clock
  assert.ok(now() >= ahead && now() < ahead + 1000);
});
