"""Data sets as people keep them on disk, read into one type: `sample.Sample`."""
