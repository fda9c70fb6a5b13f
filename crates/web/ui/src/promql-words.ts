// The words of PromQL, with what they do (prometheus.io/docs/prometheus/latest/querying).

export const AGGREGATIONS: Readonly<Record<string, string>> = {
  sum: "adds up", avg: "average", min: "least", max: "greatest", count: "how many series",
  count_values: "how many series per value",
  stddev: "standard deviation", stdvar: "variance", topk: "the k greatest", bottomk: "the k least",
  quantile: "quantile over series",
  group: "1 for each group",
};

export const FUNCTIONS: Readonly<Record<string, string>> = {
  rate: "increase per second of a counter, over a window", irate: "increase per second between the last two values",
  increase: "increase of a counter over a window", delta: "difference of a gauge over a window",
  idelta: "difference of the last two values", deriv: "slope per second of a gauge", resets: "restarts of a counter",
  changes: "how often a value changed", predict_linear: "value in so many seconds, by linear regression",
  avg_over_time: "average over a window", min_over_time: "least over a window", max_over_time: "greatest over a window",
  sum_over_time: "sum over a window", count_over_time: "values in a window",
  quantile_over_time: "quantile over a window",
  stddev_over_time: "standard deviation over a window", stdvar_over_time: "variance over a window",
  last_over_time: "last value of a window", present_over_time: "1 where a window has values",
  absent: "1 when there is no such series", absent_over_time: "1 when a window has no values",
  histogram_quantile: "quantile of a histogram", label_replace: "sets a label from another by a pattern",
  label_join: "joins labels", abs: "without sign", ceil: "rounded up", floor: "rounded down", round: "rounded",
  clamp: "kept between two values", clamp_min: "at least", clamp_max: "at most", exp: "e to the power",
  ln: "natural logarithm",
  log2: "logarithm to base 2", log10: "logarithm to base 10", sqrt: "square root", sgn: "sign",
  scalar: "series to number",
  vector: "number to series", sort: "by value", sort_desc: "by value, greatest first", time: "seconds since 1970",
  timestamp: "time of the value", minute: "minute of the hour", hour: "hour of the day", day_of_week: "day of the week",
  day_of_month: "day of the month", day_of_year: "day of the year", days_in_month: "days in the month", month: "month",
  year: "year",
};

export const KEYWORDS: Readonly<Record<string, string>> = {
  by: "keeps only these labels", without: "keeps all but these labels", on: "matches by these labels",
  ignoring: "matches by all but these labels", group_left: "many to one", group_right: "one to many",
  offset: "so long ago", bool: "0 or 1 instead of a filter", and: "where both are", or: "either",
  unless: "where the other is not",
};

export const WINDOWS = ["1m", "5m", "15m", "30m", "1h", "6h", "1d", "7d"] as const;
