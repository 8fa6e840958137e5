'use strict';

/**
 * What the benchmarks' jobs do in Node; `benchmarks/work.py` has the same for Python.
 *
 * A handler gets a job's list of arguments. Only `io` returns a promise.
 */

const tally = require('./tally');

const IO_MS = 10;
const CPU_STEPS = 4_500_000; // ≈ 5 ms of one core

const handlers = {
  noop: () => tally.count(),
  io: () => new Promise((resolve) => setTimeout(resolve, IO_MS)).then(tally.count),
  cpu: () => {
    spin();
    tally.count();
  },
  stamp: ([enqueuedAt]) => tally.record(enqueuedAt),
  late: ([dueAt]) => tally.record(dueAt),
};

function spin() {
  let number = 1;
  for (let step = 0; step < CPU_STEPS; step++) number = (Math.imul(number, 1664525) + 1013904223) | 0;
  return number;
}

/** A new job's arguments, made at the enqueue call; `late` gets its due time instead. */
function argumentsOf(kind) {
  if (kind === 'noop') return [1, 'two', 3.0];
  if (kind === 'stamp') return [tally.now()];
  return [];
}

module.exports = { handlers, argumentsOf, spin };
