'use strict';

const { Queue, Worker } = require('bullmq');
const { createClient } = require('redis');

const { main, redisPort } = require('./driver');
const { handlers } = require('./jobs');

const QUEUE = 'jobs';
const SLOTS = 200;
const EVENTS_KEPT = 100; // nobody reads them; 10,000 by default

async function connect() {
  const connection = await openClient();
  const queue = new Queue(QUEUE, { connection, streams: { events: { maxLen: EVENTS_KEPT } } });
  await queue.waitUntilReady();
  return {
    enqueue: (kind, args, due) => queue.add(kind, args, optionsOf(due)),
    enqueueBulk: (kind, list) =>
      queue.addBulk(list.map(({ args, due }) => ({ name: kind, data: args, opts: optionsOf(due) }))),
    left: () => queue.getJobCountByTypes('waiting', 'paused', 'prioritized', 'delayed', 'active'),
    close: () => queue.close().then(() => connection.close()),
  };
}

async function openClient() {
  const client = createClient({ socket: { host: '127.0.0.1', port: redisPort() } });
  client.on('error', console.error);
  return client.connect();
}

function optionsOf(due) {
  return due === undefined ? undefined : { delay: Math.max(0, Math.round(due * 1000 - Date.now())) };
}

async function work(kind, slots) {
  const handler = handlers[kind];
  const worker = new Worker(QUEUE, async (job) => handler(job.data), {
    connection: await openClient(),
    concurrency: slots,
    removeOnComplete: { count: 0 },
  });
  worker.on('error', console.error);
  await worker.waitUntilReady();
  return () => worker.close();
}

main({
  name: 'BullMQ',
  package: 'bullmq',
  command: 'node benchmarks/node/bullmq.js work noop',
  guarantee: 'at least once',
  onKill:
    'Nothing: a job’s lock runs out after 30 s, and a check every 30 s lets it run again; a job to which this happens ' +
    'twice fails (maxStalledCount 1).',
  notes:
    `2 processes, each new Worker(…, {concurrency: ${SLOTS}, removeOnComplete: {count: 0}}) for no-ops; 10, 50, 100, ` +
    '200 and 400 were tried. node-redis 5, because it drained faster than node-redis 6, and than ioredis with or ' +
    `without its automatic pipelining. The event stream keeps about ${EVENTS_KEPT} events. Bulk: addBulk of 1,000.`,
  slots: SLOTS,
  connect,
  work,
});
