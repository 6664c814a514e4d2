"""Checkpoints converted file to file, without a model: `treealign.convert_checkpoint`.

A conversion has three parts, so that the middle one can run anywhere:

plan
    `open_source` reads names, shapes and places; `planning.plan_files` makes of them a `ConversionPlan`:
    pure data, one `ShardTask` for each file that is to be written. A task can be pickled, and says of which bytes of
    which files its file is made. No tensor is read.
run
    `writing.run_task(task, folder)` writes one file into the folder, whole or not at all. Tasks know nothing of each
    other, may run in any order, on any machine that sees the files, and more than once: a file that is there under its
    name is complete. `running.run_tasks` runs them all, on an executor where one is given.
finish
    `finishing.finish` writes what stands beside the weights, the index last; `publishing` gives everything its name.
"""
