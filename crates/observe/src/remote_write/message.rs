//! The messages of remote write 1.0 (prometheus/prompb/remote.proto and types.proto), as far as they are used.

use prost::Message;
use std::{collections::BTreeMap, sync::Arc};
use surus_core::series::{Labels, Metadata, MetricKind};

/// One request.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<MetricMetadata>,
}

/// A series with its samples.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    /// In milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// What is known about a metric.
#[derive(Clone, PartialEq, Message)]
pub struct MetricMetadata {
    /// 0 unknown, 1 counter, 2 gauge, 3 histogram, 5 summary.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub metric_family_name: String,
    #[prost(string, tag = "4")]
    pub help: String,
}

/// The body of a request with these points, compressed.
pub fn encode(at_ms: i64, points: &[(Labels, f64)], external: &BTreeMap<String, String>) -> Vec<u8> {
    let external: Vec<(Arc<str>, Arc<str>)> =
        external.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
    let series = |(labels, value): &(Labels, f64)| TimeSeries {
        labels: wire_labels(labels, &external),
        samples: vec![Sample { value: *value, timestamp: at_ms }],
    };
    compressed(&WriteRequest { timeseries: points.iter().map(series).collect(), metadata: Vec::new() })
}

/// The series' labels and those external ones that it does not have.
fn wire_labels(labels: &Labels, external: &[(Arc<str>, Arc<str>)]) -> Vec<Label> {
    let wire = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
    if external.is_empty() {
        return labels.iter().map(wire).collect();
    }
    let all = external.iter().cloned().chain(labels.pairs().map(|(name, value)| (name.clone(), value.clone())));
    Labels::merged(all).iter().map(wire).collect()
}

/// The body of a request that says what metrics mean, compressed.
pub fn encode_metadata(all: &[Metadata]) -> Vec<u8> {
    let metadata = |one: &Metadata| MetricMetadata {
        kind: match one.kind {
            MetricKind::Unknown => 0,
            MetricKind::Counter => 1,
            MetricKind::Gauge => 2,
            MetricKind::Histogram => 3,
            MetricKind::Summary => 5,
        },
        metric_family_name: one.metric.clone(),
        help: one.help.clone(),
    };
    compressed(&WriteRequest { timeseries: Vec::new(), metadata: all.iter().map(metadata).collect() })
}

/// In snappy's block format, without framing.
fn compressed(request: &WriteRequest) -> Vec<u8> {
    let plain = request.encode_to_vec();
    // It fails only for more than 4 GiB, which the limits of points and labels do not allow.
    snap::raw::Encoder::new().compress_vec(&plain).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(body: &[u8]) -> WriteRequest {
        WriteRequest::decode(&*snap::raw::Decoder::new().decompress_vec(body).unwrap()).unwrap()
    }

    fn text(series: &TimeSeries) -> String {
        series.labels.iter().map(|label| format!("{}={};", label.name, label.value)).collect()
    }

    #[test]
    fn a_series_own_labels_stay_and_all_are_sorted() {
        let labels = Labels::new([("__name__", "up"), ("job", "postgres"), ("Zone", "a")]).unwrap();
        let external = [("region", "eu"), ("job", "other"), ("a", "")].map(|(name, value)| (name.into(), value.into()));
        let request = decoded(&encode(1234, &[(labels, 1.5)], &external.into()));
        assert_eq!(text(&request.timeseries[0]), "Zone=a;__name__=up;job=postgres;region=eu;");
        assert_eq!(request.timeseries[0].samples, [Sample { value: 1.5, timestamp: 1234 }]);
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let labels = Labels::new([("__name__", "up")]).unwrap();
        let body = encode(1000, &[(labels, 1.0)], &BTreeMap::new());
        let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        // Written down from types.proto: series { label { "__name__", "up" } sample { 1.0, 1000 } }.
        let mut expected = vec![0x0a, 0x1e, 0x0a, 0x0e, 0x0a, 8];
        expected.extend(b"__name__");
        expected.extend([0x12, 2, b'u', b'p', 0x12, 0x0c, 0x09]);
        expected.extend(1.0_f64.to_le_bytes());
        expected.extend([0x10, 0xe8, 0x07]);
        assert_eq!(plain, expected);
    }

    #[test]
    fn the_end_of_a_series_keeps_its_bits() {
        let labels = Labels::new([("__name__", "up")]).unwrap();
        let request = decoded(&encode(1, &[(labels, surus_core::series::stale())], &BTreeMap::new()));
        assert!(surus_core::series::is_stale(request.timeseries[0].samples[0].value));
    }

    #[test]
    fn metadata_has_the_kinds_numbers() {
        let one = Metadata { metric: "a_total".into(), kind: MetricKind::Counter, help: "h".into() };
        let request = decoded(&encode_metadata(&[one]));
        assert_eq!((request.metadata[0].kind, request.metadata[0].metric_family_name.as_str()), (1, "a_total"));
    }
}
