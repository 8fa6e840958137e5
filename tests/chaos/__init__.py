"""The chaos suite: real workers, real faults, a ledger outside Redis, and a judge.

``make chaos`` runs all of it, ``python -m tests.chaos --help`` lists what can be asked for. A run in five
steps:

1. ``stage.py`` starts a Redis of its own (``appendfsync always``) and several ``runworker``s, each behind a
   TCP proxy of its own;
2. ``producer.py`` enqueues jobs of many kinds (``jobs.py``), and writes down which ones Redis acknowledged;
3. ``faults.py`` does harm meanwhile, by a schedule that comes from the seed, and writes down what it did;
4. jobs write their starts and finishes into the ledger (``ledger.py``), an append-only file;
5. ``judge.py`` compares ledger, faults and what stands in Redis at the end. What the faults don't explain is
   a finding.

The judge is judged as well: ``mutants.py`` breaks the engine in five ways, and each must be found out.
A seed repeats the jobs and the schedule of the faults, not how processes interleave.
"""
