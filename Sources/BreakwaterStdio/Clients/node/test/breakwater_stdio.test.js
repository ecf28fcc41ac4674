'use strict';

// Tests of the library, each with a real process: node --test test/

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const path = require('node:path');
const readline = require('node:readline');
const { test } = require('node:test');

const LIBRARY = path.join(__dirname, '..', 'breakwater_stdio.js');

/** A handler's process, and a worker's side of the protocol. */
class Handler {
  constructor(body, { jobs = 4, heartbeat = 10, maxLine = 1 << 20, options = '{}' } = {}) {
    const script = `
      const { setTimeout: sleep } = require('node:timers/promises');
      const library = require(${JSON.stringify(LIBRARY)});
      const { serve, Fail, Discard, Unable, Unavailable, Throttle, Snooze, Release } = library;
      serve(async (job) => { ${body} }, ${options});`;
    // A process that does not answer must not hold the tests up.
    this.process = spawn(process.execPath, ['-e', script], { timeout: 60000, killSignal: 'SIGKILL' });
    this.errors = '';
    this.process.stderr.on('data', (chunk) => { this.errors += chunk; });
    this.exited = new Promise((resolve) => { this.process.on('close', (code) => resolve(code)); });
    this.lines = readline.createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
    this.send({ type: 'hello', protocol: 1, jobs, heartbeat, max_line: maxLine });
  }

  send(...messages) {
    this.process.stdin.write(messages.map((message) => `${JSON.stringify(message)}\n`).join(''));
  }

  message(run, payload) {
    return {
      type: 'run', run, id: '9223372036854775807', kind: 'k', queue: 'q', attempt: 2, max_attempts: 9,
      deadline: '2026-01-31T00:00:00.000Z', idempotency_key: 'breakwater-1', traceparent: '00-ab-cd-01', payload,
      x_later: [1],
    };
  }

  run(...payloads) { this.send(...payloads.map((payload, index) => this.message(index + 1, payload))); }

  async read() {
    const { value, done } = await this.lines.next();
    return done ? null : JSON.parse(value);
  }

  async end() {
    this.process.stdin.end();
    return this.exited;
  }
}

async function withHandler(body, options, use) {
  const handler = new Handler(body, options);
  try {
    handler.hello = await handler.read();
    await use(handler);
  } finally {
    handler.process.kill('SIGKILL');
    // Otherwise output that was not read would keep the stream open.
    handler.process.stdout.destroy();
    await handler.exited;
  }
}

async function answer(body, payload = null, options = {}) {
  let message;
  await withHandler(body, options, async (handler) => {
    handler.run(payload);
    message = await handler.read();
  });
  return message;
}

test('it says hello', () => withHandler('', { jobs: 3 }, async ({ hello }) => {
  assert.equal(hello.type, 'hello');
  assert.equal(hello.protocol, 1);
  assert.equal(hello.jobs, 3);
  assert.deepEqual(hello.can, ['cancel', 'heartbeat']);
}));

test('a returned value is the result', async () => {
  assert.deepEqual(await answer(''), { type: 'result', run: 1, outcome: 'succeeded' });
  assert.deepEqual((await answer('return job.payload', { é: [null, '😀'] })).result, { é: [null, '😀'] });
});

test('a job has its members', async () => {
  const body = `return [job.id, job.kind, job.queue, job.attempt, job.maxAttempts, job.idempotencyKey, job.traceparent,
    job.tracestate ?? null, job.deadline.getTime(), job.lastCheckpoint ?? null]`;
  const expected = ['9223372036854775807', 'k', 'q', 2, 9, 'breakwater-1', '00-ab-cd-01', null, 1769817600000, null];
  assert.deepEqual((await answer(body)).result, expected);
});

const error = { name: 'a.b', message: 'c' };
for (const [thrown, members] of [
  ["new Fail('a.b', 'c')", { outcome: 'failed', error }],
  ["new Discard('a.b', 'c')", { outcome: 'discarded', error }],
  ["new Unable('a.b', 'c')", { outcome: 'unable', error }],
  ["new Unavailable('a.b', 'c')", { outcome: 'unavailable', error }],
  ["new Unavailable('a.b', 'c', 3)", { outcome: 'unavailable', error, retry_after: 3 }],
  ["new Throttle('a.b', 'c', 0.5)", { outcome: 'throttled', error, retry_after: 0.5 }],
  ['new Snooze(60)', { outcome: 'snoozed', retry_after: 60 }],
  ['new Release()', { outcome: 'released' }],
  ["new RangeError('c')", { outcome: 'failed', error: { name: 'RangeError', message: 'c' } }],
  ["'text'", { outcome: 'failed', error: { name: 'Error', message: 'text' } }],
]) {
  test(`throwing ${thrown}`, async () => {
    assert.deepEqual(await answer(`throw ${thrown}`), { type: 'result', run: 1, ...members });
  });
}

const deep = (levels) => `let deep = 1; for (let i = 0; i < ${levels}; i += 1) deep = [deep];`;
for (const [body, name] of [
  ['const cycle = {}; cycle.cycle = cycle; return cycle', 'TypeError'],
  ['return { big: 1n }', 'TypeError'],
  ['return () => 1', 'TypeError'],
  ['return NaN', 'RangeError'],
  ['return [Infinity]', 'RangeError'],
  [`${deep(511)} return deep`, 'RangeError'],
  [`${deep(20000)} return deep`, 'RangeError'],
  ["return 'x'.repeat(3000)", 'result.tooLong'],
  ["return 'é'.repeat(1100)", 'result.tooLong'],
  ["job.checkpoint('x'.repeat(3000))", 'checkpoint.tooLong'],
  ['throw new Snooze(NaN)', 'RangeError'],
  ["throw new Unavailable('a.b', 'c', NaN)", 'RangeError'],
  ["throw new Throttle('a.b', 'c', Infinity)", 'RangeError'],
  ["throw new Throttle('a.b', 'c', '3')", 'RangeError'],
]) {
  test(`the worker would refuse the outcome of ${body}, so the run fails`, () => {
    return withHandler(`if (job.payload) return 1; ${body}`, { maxLine: 2048 }, async (handler) => {
      handler.run(false, true);
      const answers = [await handler.read(), await handler.read()].sort((a, b) => a.run - b.run);
      assert.deepEqual([answers[0].outcome, answers[0].error.name], ['failed', name]);
      assert.equal(answers[1].outcome, 'succeeded');
    });
  });
}

test('a result that is too long says how long it is', async () => {
  const { error: { message } } = await answer("return 'x'.repeat(3000)", null, { maxLine: 2048 });
  assert.equal(message, 'the line of the result has 3059 bytes of at most 2048');
});

test('the longest and the deepest results', async () => {
  assert.equal((await answer("return 'x'.repeat(1989)", null, { maxLine: 2048 })).result.length, 1989);
  assert.equal((await answer(`${deep(510)} return deep`)).outcome, 'succeeded');
  assert.equal((await answer('return Array(600).fill([])')).result.length, 600);
});

test('a result is encoded once', async () => {
  const body = 'let count = 0; return { toJSON() { count += 1; return count; } }';
  assert.equal((await answer(body)).result, 1);
});

test('long messages and notes are cut', async () => {
  for (const maxLine of [1024, 1 << 20]) {
    const thrown = await answer("throw new Discard('a.b', '\\0'.repeat(9000))", null, { maxLine });
    assert.deepEqual([thrown.outcome, thrown.error.name], ['discarded', 'a.b']);
    assert.equal(thrown.error.message.length, Math.min(8192, Math.floor(maxLine / 20)));
    const progress = await answer("job.progress(NaN, '\\0'.repeat(9000))", null, { maxLine });
    assert.deepEqual([progress.fraction, progress.note.length], [0, Math.min(1000, Math.floor(maxLine / 20))]);
  }
});

test('waiting times that are too short', async () => {
  assert.equal((await answer("throw new Unavailable('a.b', 'c', -1)")).retry_after, 0);
  for (const seconds of [0, -1, 1e-30]) {
    assert.equal((await answer(`throw new Snooze(${seconds})`)).retry_after, 1e-6);
  }
});

test('a payload of any depth', () => withHandler('return job.payload', {}, async (handler) => {
  const payload = `${'['.repeat(100000)}${']'.repeat(100000)}`;
  const line = JSON.stringify(handler.message(1, 'PAYLOAD')).replace('"PAYLOAD"', payload);
  handler.process.stdin.write(`${line}\n`);
  const { outcome, error: { name } } = await handler.read();
  assert.deepEqual([outcome, name], ['failed', 'RangeError']);
}));

test('heartbeats after a drain', () => withHandler('await sleep(500)', { heartbeat: 0.1 }, async (handler) => {
  handler.run(null);
  handler.send({ type: 'drain' });
  const types = [];
  while (types.at(-1) !== 'result') types.push((await handler.read()).type);
  assert.ok(types.length >= 3);
}));

test('what is printed goes to standard error', () => withHandler("console.log('printed')", {}, async (handler) => {
  handler.run(null);
  assert.equal((await handler.read()).outcome, 'succeeded');
  assert.equal(await handler.end(), 0);
  assert.match(handler.errors, /printed/);
}));

test('progress and checkpoints', () => {
  const body = "job.progress(0.5, 'half'); job.progress(0.6); job.checkpoint({ n: 1 })";
  return withHandler(body, {}, async (handler) => {
    handler.run(null);
    assert.deepEqual(await handler.read(), { type: 'progress', run: 1, fraction: 0.5, note: 'half' });
    // The second report came too soon after the first.
    assert.deepEqual(await handler.read(), { type: 'checkpoint', run: 1, checkpoint: { n: 1 } });
    assert.equal((await handler.read()).type, 'result');
  });
});

test('several jobs at once, no more', () => withHandler('await sleep(job.payload)', { jobs: 2 }, async (handler) => {
  handler.run(400, 200, 1);
  assert.deepEqual([(await handler.read()).run, (await handler.read()).run, (await handler.read()).run], [2, 3, 1]);
}));

test('its own limit', () => withHandler('await sleep(job.payload)', { options: '{ jobs: 1 }' }, async (handler) => {
  assert.equal(handler.hello.jobs, 1);
  handler.run(200, 1);
  assert.deepEqual([(await handler.read()).run, (await handler.read()).run], [1, 2]);
}));

test('a cancelled run', () => {
  const body = 'await sleep(60000, null, { signal: job.signal })';
  return withHandler(body, { jobs: 1 }, async (handler) => {
    handler.run(null, null);
    handler.send({ type: 'cancel', run: 2 });
    assert.deepEqual(await handler.read(), { type: 'result', run: 2, outcome: 'released' });
    handler.send({ type: 'cancel', run: 1 });
    assert.deepEqual(await handler.read(), { type: 'result', run: 1, outcome: 'released' });
    // It comes too late, and is ignored.
    handler.send({ type: 'cancel', run: 1 }, { type: 'x-later' });
    assert.equal(await handler.end(), 0);
  });
});

test('heartbeats', () => withHandler('await sleep(500)', { heartbeat: 0.1 }, async (handler) => {
  handler.run(null);
  const types = [];
  while (types.at(-1) !== 'result') types.push((await handler.read()).type);
  assert.ok(types.length >= 3);
  assert.deepEqual(new Set(types.slice(0, -1)), new Set(['heartbeat']));
}));

test('draining finishes what is there', () => withHandler('await sleep(1); return job.payload', {}, async (handler) => {
  handler.run(...Array(50).keys());
  handler.send({ type: 'drain' });
  const results = [];
  for (let index = 0; index < 50; index += 1) results.push((await handler.read()).result);
  assert.deepEqual(results.sort((a, b) => a - b), [...Array(50).keys()]);
  assert.equal(await handler.end(), 0);
}));

test('a message in pieces', () => withHandler('return job.payload', {}, async (handler) => {
  const line = `${JSON.stringify(handler.message(1, 'é'.repeat(100000)))}\n`;
  const bytes = Buffer.from(line);
  handler.process.stdin.write(bytes.subarray(0, 501));
  await new Promise((resolve) => { setTimeout(resolve, 50); });
  handler.process.stdin.write(bytes.subarray(501));
  assert.equal((await handler.read()).result, 'é'.repeat(100000));
}));

test('another version is refused', async () => {
  const handler = new Handler('');
  handler.process.kill('SIGKILL');
  await handler.exited;
  const other = spawn(process.execPath, ['-e', `require(${JSON.stringify(LIBRARY)}).serve(() => {})`]);
  other.stdin.end('{"type":"hello","protocol":2}\n');
  assert.equal(await new Promise((resolve) => { other.on('close', resolve); }), 1);
});
