"""Reads histogram logs with PyPI's hdrhistogram, which shares no code with Baton's, and prints what it finds as JSON lines."""

import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

for path in sys.argv[1:]:
    reader = HistogramLogReader(path, HdrHistogram(1, 60_000_000_000, 2))
    while True:
        # In absolute time, over everything.
        interval = reader.get_next_interval_histogram(0, 1e12, True)
        if interval is None:
            break
        print(json.dumps({
            "path": path,
            "tag": interval.get_tag(),
            "start_ms": interval.get_start_time_stamp(),
            "end_ms": interval.get_end_time_stamp(),
            "count": interval.get_total_count(),
            "percentiles": [interval.get_value_at_percentile(p) for p in (50, 99, 99.9, 100)],
        }))
