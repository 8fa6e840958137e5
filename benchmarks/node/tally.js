'use strict';

/**
 * How a worker's process tells the harness what it has run; `benchmarks/tally.py` says what the files hold.
 *
 * Node writes on timers instead of to a mapped file, so that a job costs an addition and no system call.
 */

const fs = require('node:fs');
const path = require('node:path');
const { performance } = require('node:perf_hooks');

const COUNT_EVERY_MS = 2;
const DELAYS_EVERY_MS = 50;

const counted = Buffer.alloc(8);
let jobs = 0;
let delays = [];
let countFile = null;
let countIsDue = false;
let delaysAreDue = false;

/** Make this process's files; the harness may then wait for it. */
function start() {
  countFile = fs.openSync(fileOf('count'), 'w');
  writeCount();
  process.on('exit', flush);
}

/** One more job has run in this process. */
function count() {
  jobs += 1;
  if (!countIsDue) {
    countIsDue = true;
    setTimeout(writeCount, COUNT_EVERY_MS);
  }
}

/** A job has run now, and should or could have at this time (unix seconds). */
function record(since) {
  delays.push(now() - since);
  if (!delaysAreDue) {
    delaysAreDue = true;
    setTimeout(writeDelays, DELAYS_EVERY_MS);
  }
}

function writeCount() {
  countIsDue = false;
  counted.writeBigUInt64LE(BigInt(jobs));
  fs.writeSync(countFile, counted, 0, counted.length, 0);
}

function writeDelays() {
  delaysAreDue = false;
  const data = Buffer.alloc(delays.length * 8);
  delays.forEach((delay, place) => data.writeDoubleLE(delay, place * 8));
  delays = [];
  fs.appendFileSync(fileOf('delays'), data);
}

function flush() {
  writeCount();
  if (delays.length) writeDelays();
}

function fileOf(kind) {
  return path.join(process.env.BENCH_TALLY, `${process.pid}.${kind}`);
}

/** Unix seconds with microseconds, which `Date.now()` doesn't have. */
function now() {
  return (unixMsAtZero + performance.now()) / 1000;
}

/** The unix time in milliseconds at which `performance.now()` was 0, found where a millisecond begins. */
function findUnixMsAtZero() {
  const before = Date.now();
  let edge = before;
  while (edge === before) edge = Date.now();
  return edge - performance.now();
}

const unixMsAtZero = findUnixMsAtZero();

module.exports = { start, count, record, now };
