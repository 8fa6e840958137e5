'use strict';

process.noDeprecation = true; // it's from 2017, and so is its Redis client

const { promisify } = require('node:util');

const kue = require('kue');

const { main, redisPort } = require('./driver');
const { handlers } = require('./jobs');

const TYPE = 'jobs';
const SLOTS = 200;
const TTL_MS = 30_000;
const PROMOTION = { interval: 250, limit: 10_000 }; // 1,000 ms and 1,000 jobs by default: too late and too few
const STOP_WITHIN_MS = 1000;

function open(options) {
  const queue = kue.createQueue({ redis: { host: '127.0.0.1', port: redisPort() }, jobEvents: false, ...options });
  queue.on('error', console.error);
  return queue;
}

async function connect() {
  const queue = open();
  const countOf = promisify(queue.card.bind(queue));
  await countOf('inactive'); // connected
  return {
    enqueue: (kind, args, due) => save(queue.create(TYPE, args), due),
    left: async () => {
      const counts = await Promise.all(['inactive', 'delayed', 'active'].map((state) => countOf(state)));
      return counts.reduce((sum, count) => sum + count);
    },
    close: () => promisify(queue.shutdown.bind(queue))(STOP_WITHIN_MS),
  };
}

function save(job, due) {
  // The time to live and the second attempt are what let a dead worker's job run again.
  job.removeOnComplete(true).ttl(TTL_MS).attempts(2);
  if (due !== undefined) job.delay(new Date(due * 1000));
  return new Promise((resolve, reject) => job.save((error) => (error ? reject(error) : resolve())));
}

async function work(kind, slots) {
  const queue = open({ promotion: PROMOTION });
  queue.setMaxListeners(0); // it adds one for each slot
  const handler = handlers[kind];
  queue.process(TYPE, slots, async (job, done) => {
    await handler(job.data);
    done();
  });
  queue.watchStuckJobs();
  return () => promisify(queue.shutdown.bind(queue))(STOP_WITHIN_MS);
}

main({
  name: 'Kue',
  package: 'kue',
  command: 'node benchmarks/node/kue.js work noop',
  guarantee: 'less than at least once',
  onKill:
    'Some of its jobs: a worker takes a job from the queue before it marks it as active, and if it dies in between, ' +
    'nobody sees that job again; active jobs run again after their time to live, which they have here (30 s, ' +
    '2 attempts), but not by default.',
  notes:
    `2 processes, each queue.process('jobs', ${SLOTS}, …) for no-ops; 10, 50, 100, 200 and 400 were tried. ` +
    'removeOnComplete, no job events, no search, watchStuckJobs as its documentation advises; Kue looks for delayed ' +
    `jobs every ${PROMOTION.interval} ms, ${PROMOTION.limit} at most. No bulk call. Not maintained since 2017.`,
  slots: SLOTS,
  connect,
  work,
});
