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
  constructor(body, { jobs = 4, heartbeat = 10, options = '{}' } = {}) {
    const script = `
      const { setTimeout: sleep } = require('node:timers/promises');
      const { serve, Fail, Discard, Unable, Unavailable, Throttle, Snooze, Release } = require(${JSON.stringify(LIBRARY)});
      serve(async (job) => { ${body} }, ${options});`;
    this.process = spawn(process.execPath, ['-e', script]);
    this.errors = '';
    this.process.stderr.on('data', (chunk) => { this.errors += chunk; });
    this.exited = new Promise((resolve) => { this.process.on('close', (code) => resolve(code)); });
    this.lines = readline.createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
    this.send({ type: 'hello', protocol: 1, jobs, heartbeat, max_line: 1 << 20 });
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
    await handler.exited;
  }
}

async function answer(body, payload = null) {
  let message;
  await withHandler(body, {}, async (handler) => {
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
  const circular = await answer('const a = {}; a.a = a; return a');
  assert.deepEqual([circular.outcome, circular.error.name], ['failed', 'TypeError']);
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

test('several jobs at once, and no more', () => withHandler('await sleep(job.payload)', { jobs: 2 }, async (handler) => {
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
