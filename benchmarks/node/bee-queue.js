'use strict';

const Queue = require('bee-queue');

const { main, redisPort } = require('./driver');
const { handlers } = require('./jobs');

const QUEUE = 'jobs';
const SLOTS = 200;
const STALL_INTERVAL_MS = 5000; // the default
const DELAYED_DEBOUNCE_MS = 10; // 1,000 by default: delayed jobs could be that late

function open(settings) {
  return new Queue(QUEUE, {
    redis: { host: '127.0.0.1', port: redisPort() },
    // Nobody listens to events, so no process keeps its jobs in order to emit theirs.
    getEvents: false,
    sendEvents: false,
    storeJobs: false,
    ...settings,
  }).ready();
}

async function connect() {
  const queue = await open({ isWorker: false });
  const jobOf = (args, due) => {
    const job = queue.createJob(args);
    return due === undefined ? job : job.delayUntil(Math.round(due * 1000));
  };
  return {
    enqueue: (kind, args, due) => jobOf(args, due).save(),
    enqueueBulk: (kind, list) => queue.saveAll(list.map(({ args, due }) => jobOf(args, due))).then(mustBeEmpty),
    left: async () => {
      const { waiting, active, delayed } = await queue.checkHealth();
      return waiting + active + delayed;
    },
    close: () => queue.close(),
  };
}

function mustBeEmpty(errors) {
  for (const error of errors.values()) throw error;
}

async function work(kind, slots) {
  const queue = await open({
    removeOnSuccess: true,
    stallInterval: STALL_INTERVAL_MS,
    activateDelayedJobs: kind === 'late',
    delayedDebounce: DELAYED_DEBOUNCE_MS,
  });
  queue.on('error', console.error);
  const handler = handlers[kind];
  queue.process(slots, async (job) => handler(job.data));
  // Without this, nobody looks after a dead worker's jobs.
  queue.checkStalledJobs(STALL_INTERVAL_MS / 2);
  return () => queue.close();
}

main({
  name: 'Bee-Queue',
  package: 'bee-queue',
  command: 'node benchmarks/node/bee-queue.js work noop',
  guarantee: 'at least once',
  onKill:
    'Nothing, since the worker calls checkStalledJobs every 2.5 s, as its documentation advises; by default, a dead ' +
    'worker’s jobs only run again when the next worker starts.',
  notes:
    `2 processes, each queue.process(${SLOTS}, …) for no-ops; 10, 50, 100, 200 and 400 were tried. removeOnSuccess, ` +
    'no events, no stored jobs. activateDelayedJobs only for delayed jobs, with a delayedDebounce of ' +
    `${DELAYED_DEBOUNCE_MS} ms. Bulk: saveAll of 1,000.`,
  slots: SLOTS,
  connect,
  work,
});
