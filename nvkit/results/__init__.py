"""From LoadGen's logs to results: what a test measured, whether it counts, how it looks and compares.

Import from the modules; importing this package loads none of them (plots needs matplotlib):

    loadgen_log   read_detail, read_summary, read_accuracy, read_trace; DetailLog, Entry
    raw_log       RawLatencies: every sample of a test as arrays
    percentiles   percentiles, early_stopping, queries_needed, check_against; CheckRow, EarlyStopping
    validity      verdict, against_round; Verdict, Reason
    metric        official, round_number; Metric
    published     load, nearest, comparison_table; PublishedResult, Comparison
    summary       summarise, results_table; TestSummary
    plots         latency_percentiles, latency_distribution, latency_over_time, throughput_over_time, save
    plot_style    the look that the figures share

The way through: a folder of one test goes into `summarise`, which gives the `TestSummary` that is stored;
`results_table` and `nearest` show it; `read_trace` gives the raw latencies that the plots take.
"""
