'use strict';

// Handlers for Breakwater's `stdio` plugin, in Node.js.
//
//     const { serve, Discard } = require('./breakwater_stdio.js');
//
//     serve(async (job) => {
//       if (!job.payload.to) throw new Discard('mail.noRecipient', "the payload has no 'to'");
//       await sendMail(job.payload.to, { signal: job.signal });
//       return { sent: true };
//     });
//
// A handler is a function, usually async, that takes a Job. What it returns is the job's result, which must be JSON;
// undefined is no result. An Outcome that it throws is the outcome of the run. Any other error is a failure under its
// name, and its stack goes to standard error.
//
// Standard output belongs to the protocol, so `serve` redirects it: what a handler prints goes to standard error, which
// the worker logs.

const PROTOCOL = 1;
const VERSION = '1.0.0';
// A job's progress is written at most this often, in milliseconds.
const PROGRESS_MS = 100;
// The worker keeps no more characters of a note, and of a failure's message.
const NOTE_CHARACTERS = 1000;
const MESSAGE_CHARACTERS = 8192;
// The worker refuses a message that has a value at this depth.
const MAX_DEPTH = 512;
// The shortest snooze, in seconds. The worker's database rounds shorter ones to 0.
const SHORTEST_SNOOZE = 1e-6;

/** The outcome of a run, for a handler to throw. Use one of the classes below. */
class Outcome extends Error {
  /**
   * @param {string} name A short, stable name that retry rules can match.
   * @param {string} message What happened, for people.
   */
  constructor(name, message = '') {
    super(message);
    this.name = name || this.constructor.name;
  }

  /** The members of the result. */
  members() {
    return { outcome: this.constructor.outcome, error: failure(this.name, this.message) };
  }
}

/** The run failed. The job is retried with backoff. */
class Fail extends Outcome {
  static outcome = 'failed';
}

/** The job can never succeed. It becomes a dead letter at once. */
class Discard extends Outcome {
  static outcome = 'discarded';
}

/** This worker lacks something that the job needs, whatever the job is. No attempt is spent. */
class Unable extends Outcome {
  static outcome = 'unable';
}

class DelayedOutcome extends Outcome {
  /** @param {number} [retryAfter] The seconds after which the job may run again. */
  constructor(name, message = '', retryAfter = undefined) {
    super(name, message);
    this.retryAfter = retryAfter;
  }

  members() {
    if (this.retryAfter == null) return super.members();
    return { ...super.members(), retry_after: seconds(this.retryAfter, 0) };
  }
}

/** What the job depends on is down. The job is retried with backoff, or after `retryAfter` seconds if longer. */
class Unavailable extends DelayedOutcome {
  static outcome = 'unavailable';
}

/** What the job depends on limits the rate. The job runs again after `retryAfter` seconds. No attempt is spent. */
class Throttle extends DelayedOutcome {
  static outcome = 'throttled';
}

/** The job is to run again after this many seconds. No attempt is spent. */
class Snooze extends Outcome {
  constructor(seconds) {
    super('Snooze', `for ${seconds} seconds`);
    this.retryAfter = seconds;
  }

  members() {
    return { outcome: 'snoozed', retry_after: seconds(this.retryAfter, SHORTEST_SNOOZE) };
  }
}

/** The run did not happen. The job runs again at once. No attempt is spent. */
class Release extends Outcome {
  constructor() {
    super('Release');
  }

  members() {
    return { outcome: 'released' };
  }
}

function failure(name, message) {
  // A name may have 200 bytes.
  let text = String(name).slice(0, 200);
  while (Buffer.byteLength(text) > 200) text = text.slice(0, -1);
  return { name: text || 'Error', message: String(message) };
}

function seconds(value, least) {
  if (!Number.isFinite(value)) throw new RangeError(`the job cannot run again after ${value} seconds`);
  return Math.max(least, value);
}

/** For JSON.stringify: refuses what it would leave out or replace by null. */
function refuseLoss(key, value) {
  const type = typeof value;
  if (type === 'function' || type === 'symbol') throw new TypeError(`"${key}" is a ${type}, which is not JSON`);
  if (type === 'number' && !Number.isFinite(value)) throw new RangeError(`"${key}" is ${value}, which is not JSON`);
  return value;
}

/** Whether the worker would refuse the message because of its depth. */
function isTooDeep(line) {
  // A message with fewer brackets cannot be too deep. Nearly all have fewer.
  if (line.split(/[[{]/, MAX_DEPTH + 1).length <= MAX_DEPTH) return false;
  let level = [JSON.parse(line)];
  for (let depth = 0; depth < MAX_DEPTH; depth += 1) {
    level = level.flatMap((value) => (value instanceof Object ? Object.values(value) : []));
  }
  return level.length > 0;
}

/** The job of one run. */
class Job {
  #message;
  #server;
  #nextProgress = 0;
  #abort;

  constructor(message, server) {
    this.#message = message;
    this.#server = server;
  }

  /** The payload, decoded from JSON. */
  get payload() { return this.#message.payload; }
  /** The job's number, as text: it may exceed what a number can hold. */
  get id() { return this.#message.id; }
  get kind() { return this.#message.kind; }
  get queue() { return this.#message.queue; }
  /** The number of this counted run, from 1 on. */
  get attempt() { return this.#message.attempt; }
  get maxAttempts() { return this.#message.max_attempts; }
  /** When the run is cancelled: a Date. */
  get deadline() { return new Date(this.#message.deadline); }
  /** A text that is the same for every run of this job. */
  get idempotencyKey() { return this.#message.idempotency_key; }
  /** The W3C trace context of the run; undefined if there is none. */
  get traceparent() { return this.#message.traceparent; }
  get tracestate() { return this.#message.tracestate; }
  /** The checkpoint that an earlier attempt reported; undefined if there is none. */
  get lastCheckpoint() { return this.#message.checkpoint; }

  /** An AbortSignal that is aborted when the run is cancelled: its time is over, or the worker stops. */
  get signal() {
    this.#abort ??= new AbortController();
    return this.#abort.signal;
  }

  /** Reports how much is done, from 0 to 1, and what is being done. More than ten a second are skipped. */
  progress(fraction, note) {
    const now = performance.now();
    if (now < this.#nextProgress && fraction !== 1) return;
    this.#nextProgress = now + PROGRESS_MS;
    const message = { type: 'progress', run: this.#message.run };
    // A handler gets NaN if it divides 0 by 0.
    if (fraction != null) message.fraction = Math.min(1, Math.max(0, fraction || 0));
    if (note != null) message.note = this.#server.cut(note, NOTE_CHARACTERS);
    this.#server.send(message);
  }

  /** Reports a state, which must be JSON, from which a later attempt can go on. */
  checkpoint(state) {
    this.#server.send({ type: 'checkpoint', run: this.#message.run, checkpoint: state ?? null });
  }

  /** For the server: cancels the run. */
  _cancel() {
    this.#abort ??= new AbortController();
    this.#abort.abort();
  }
}

class Server {
  constructor(handler, jobs) {
    this.handler = handler;
    this.limit = jobs;
    this.jobs = 1;
    this.maxLine = Infinity;
    this.running = new Map();
    this.waiting = [];
    this.output = [];
    this.parts = [];
    this.greeted = false;
    this.ended = false;
    this.stdout = process.stdout;
    this.write = process.stdout.write.bind(process.stdout);
  }

  serve() {
    process.stdout.write = process.stderr.write.bind(process.stderr);
    this.stdout.on('error', () => this.end());
    return new Promise((resolve) => {
      this.resolve = resolve;
      process.stdin.on('data', (chunk) => this.read(chunk));
      process.stdin.on('end', () => this.end());
      process.stdin.on('error', () => this.end());
    });
  }

  read(chunk) {
    let start = 0;
    let end;
    while ((end = chunk.indexOf(10, start)) >= 0) {
      let line = chunk.subarray(start, end);
      if (this.parts.length > 0) {
        this.parts.push(line);
        line = Buffer.concat(this.parts);
        this.parts = [];
      }
      this.take(JSON.parse(line.toString()));
      start = end + 1;
    }
    if (start < chunk.length) this.parts.push(chunk.subarray(start));
  }

  take(message) {
    if (!this.greeted) {
      this.greet(message);
      return;
    }
    switch (message.type) {
      case 'run':
        if (this.running.size < this.jobs && this.waiting.length === 0) this.run(message);
        else this.waiting.push(message);
        break;
      case 'cancel':
        this.cancel(message.run);
        break;
      case 'drain':
        this.end();
        break;
      default:
        // Later versions of the protocol may have more messages.
        break;
    }
  }

  greet(hello) {
    if (hello.type !== 'hello' || hello.protocol !== PROTOCOL) {
      process.stderr.write(`this is not version ${PROTOCOL} of Breakwater's stdio protocol\n`);
      process.exit(1);
    }
    this.greeted = true;
    this.jobs = Math.min(this.limit ?? Infinity, hello.jobs ?? 1);
    this.maxLine = hello.max_line ?? Infinity;
    this.send({
      type: 'hello', protocol: PROTOCOL, jobs: this.jobs, can: ['cancel', 'heartbeat'], library: `node ${VERSION}`,
    });
    const interval = Math.max(50, (hello.heartbeat ?? 10) * 1000);
    this.heartbeat = setInterval(() => {
      if (this.running.size > 0) this.send({ type: 'heartbeat' });
    }, interval);
  }

  async run(message) {
    const job = new Job(message, this);
    this.running.set(message.run, job);
    let members;
    try {
      const value = await this.handler(job);
      members = () => ({ outcome: 'succeeded', result: value });
    } catch (error) {
      members = () => this.failed(error, job);
    }
    const line = this.result(message.run, members);
    this.running.delete(message.run);
    this.sendLine(line);
    if (this.waiting.length > 0) this.run(this.waiting.shift());
    this.finish();
  }

  /** The line with the outcome of a run. If the members cannot be made or sent, the run has failed. */
  result(run, members) {
    try {
      const message = { type: 'result', run, ...members() };
      if (message.error) message.error.message = this.cut(message.error.message, MESSAGE_CHARACTERS);
      return this.line(message);
    } catch (error) {
      return this.result(run, () => this.failed(error));
    }
  }

  /** The members of the result of a run whose handler has thrown this. */
  failed(error, job) {
    if (error instanceof Outcome) return error.members();
    if (job?.signal.aborted) return new Release().members();
    process.stderr.write(`${error?.stack ?? error}\n`);
    return { outcome: 'failed', error: failure(error?.name ?? 'Error', error?.message ?? error) };
  }

  cancel(run) {
    this.running.get(run)?._cancel();
    const index = this.waiting.findIndex((message) => message.run === run);
    if (index < 0) return;
    this.waiting.splice(index, 1);
    this.sendLine(this.result(run, () => new Release().members()));
  }

  /** The beginning of a text. A UTF-16 unit takes at most 6 bytes, so the rest of the line has room. */
  cut(text, characters) { return String(text).slice(0, Math.min(characters, this.maxLine / 20)); }

  /** The line of a message. Throws if the worker would refuse it. */
  line(message) {
    const line = JSON.stringify(message, refuseLoss);
    const { type } = message;
    const bytes = Buffer.byteLength(line);
    if (bytes > this.maxLine) {
      throw new Fail(`${type}.tooLong`, `the line of the ${type} has ${bytes} bytes of at most ${this.maxLine}`);
    }
    if (isTooDeep(line)) throw new RangeError(`the ${type} is nested ${MAX_DEPTH} deep or more`);
    return line;
  }

  send(message) { this.sendLine(this.line(message)); }

  /** Writes a line soon. The lines of one turn of the event loop are written together. */
  sendLine(line) {
    if (this.output.length === 0) setImmediate(() => this.flush());
    this.output.push(line);
  }

  flush() {
    if (this.output.length === 0) return;
    const lines = this.output.join('\n');
    this.output = [];
    this.write(`${lines}\n`);
  }

  end() {
    if (this.ended) return;
    this.ended = true;
    this.finish();
  }

  finish() {
    if (!this.ended || this.running.size > 0 || this.waiting.length > 0) return;
    this.flush();
    clearInterval(this.heartbeat);
    process.stdin.destroy();
    this.resolve();
  }
}

/**
 * Runs jobs with a handler, many at once, until the worker ends the process.
 *
 * @param {(job: Job) => any} handler
 * @param {{jobs?: number}} [options] The most jobs at once; without it, as many as the worker is configured for.
 * @returns {Promise<void>} Resolved when the worker wants the process to end and no job runs. Close then what would
 *   keep the process alive, such as a pool of connections.
 */
function serve(handler, options = {}) {
  return new Server(handler, options.jobs).serve();
}

module.exports = { serve, Job, Outcome, Fail, Discard, Unable, Unavailable, Throttle, Snooze, Release };
