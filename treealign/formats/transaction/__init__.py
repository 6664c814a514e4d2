"""One transaction for everything that is written: lock, stage, flush, swap, and a journal by which anyone finishes it.

`transaction.transaction` is how a writer writes; `recovering.recover` is what every reader and writer does first. Files
are written into a hidden folder, the stage, which is in the folder that they are for, or beside what is not there yet.
While they change places, a journal in the stage says which files go and which come, each with its size and time of
change. A run that is killed leaves the old files and a stage without a journal, which is forgotten, or a journal, by
which whoever comes next moves the rest: what was written is complete before there is a journal.
"""
