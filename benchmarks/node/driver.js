'use strict';

/**
 * The command line of a Node peer; `benchmarks/peers/__init__.py` says what its verbs do.
 *
 * A peer is `{name, package, guarantee, onKill, notes, command, connect, work}`:
 * `connect()` returns a producer `{enqueue(kind, args, due), enqueueBulk(kind, list), left(), close()}`, with `due` in
 * unix seconds or undefined, `list` of `{args, due}`, and no `enqueueBulk` if the peer has no such call;
 * `work(kind, slots)` works in this process and returns a function that stops it.
 */

const { fork } = require('node:child_process');
const { performance } = require('node:perf_hooks');
const { parseArgs } = require('node:util');

const PROCESSES = 2; // one for each core
const BATCH = 1000;
const NO_SUCH_CALL = 3;
const IO_SLOTS = 100;

async function main(peer) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { bulk: { type: 'boolean' }, spread: { type: 'string' }, slots: { type: 'string' } },
  });
  const [verb, kind, jobs] = positionals;
  await verbs[verb](peer, { kind, jobs: Number(jobs), bulk: values.bulk, spread: values.spread, slots: values.slots });
}

const verbs = {
  async enqueue(peer, asked) {
    const producer = await peer.connect();
    if (asked.bulk && !producer.enqueueBulk) return process.exit(NO_SUCH_CALL);
    const begin = performance.now();
    await enqueue(producer, asked);
    console.log(JSON.stringify({ seconds: (performance.now() - begin) / 1000, jobs: asked.jobs }));
    await producer.close();
  },

  /** Works in this process and in others that it starts, so that no process takes memory just to supervise them. */
  async work(peer, asked) {
    const others = Array.from({ length: PROCESSES - 1 }, () => fork(process.argv[1], ['join', ...process.argv.slice(3)]));
    await run(peer, asked, (signal) => others.forEach((other) => other.kill(signal)));
  },

  /** One of the processes that `work` starts. */
  async join(peer, asked) {
    process.on('disconnect', () => process.exit(0)); // the first process was killed
    await run(peer, asked, () => {});
  },

  async left(peer) {
    const producer = await peer.connect();
    console.log(await producer.left());
    await producer.close();
  },

  about(peer) {
    const { name, guarantee, notes, command } = peer;
    const version = require(`${peer.package}/package.json`).version;
    console.log(JSON.stringify({ name, version, command, guarantee, on_kill: peer.onKill, notes }));
  },
};

// ── Enqueueing ────────────────────────────────────────────────────────────────────────────────────

/** Delayed jobs go through the bulk call if there is one: they have to be waiting before they're due. */
function enqueue(producer, asked) {
  const next = asked.spread ? dueOver(asked.jobs, Number(asked.spread)) : newOf(asked.kind);
  const inBulk = asked.bulk || (asked.spread && producer.enqueueBulk);
  return (inBulk ? inBatches : oneByOne)(producer, asked, next);
}

async function oneByOne(producer, { kind, jobs }, next) {
  const gap = kind === 'stamp' ? 1000 * Number(process.env.BENCH_GAP || 0) : 0;
  for (let number = 0; number < jobs; number++) {
    if (gap) await new Promise((resolve) => setTimeout(resolve, gap)); // so that the job finds an idle worker
    const { args, due } = next(number);
    await producer.enqueue(kind, args, due);
  }
}

async function inBatches(producer, { kind, jobs }, next) {
  for (let first = 0; first < jobs; first += BATCH) {
    const size = Math.min(BATCH, jobs - first);
    await producer.enqueueBulk(kind, Array.from({ length: size }, (_, place) => next(first + place)));
  }
}

function newOf(kind) {
  const { argumentsOf } = require('./jobs');
  return () => ({ args: argumentsOf(kind) });
}

function dueOver(jobs, spread) {
  const begin = require('./tally').now() + Number(process.env.BENCH_LEAD || 1);
  return (number) => {
    const due = Math.round((begin + (spread * number) / jobs) * 1000) / 1000; // whole milliseconds
    return { args: [due], due };
  };
}

// ── Working ───────────────────────────────────────────────────────────────────────────────────────

async function run(peer, { kind, slots }, handOn) {
  require('./tally').start();
  const stop = await peer.work(kind, slotsOfOne(peer, kind, slots));
  const leave = (signal) => {
    handOn(signal);
    stop().then(() => process.exit(0));
  };
  process.once('SIGTERM', leave);
  process.once('SIGINT', leave);
}

function slotsOfOne(peer, kind, slots) {
  if (slots) return Math.max(1, Math.ceil(Number(slots) / PROCESSES));
  if (kind === 'io') return IO_SLOTS / PROCESSES;
  return kind === 'cpu' ? 1 : peer.slots;
}

module.exports = { main, redisPort: () => Number(process.env.BENCH_REDIS_PORT || 6379) };
