//! The machine, beside node_exporter where Debian's is installed.

use crate::scene::{settings, watch, watched};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use surus_core::{clock::Deadline, series::MetricKind};
use surus_observe::{exposition, host};
use surus_testkit::Server;

const EXPORTER: &str = "/usr/bin/prometheus-node-exporter";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machine_of_a_local_target_is_told_once_and_kept_with_the_target() {
    let server = Server::start();
    let site = watch(vec![watched(&server)], settings());
    let series = site
        .found("file systems", |_| Some(site.samples("node_filesystem_avail_bytes")).filter(|found| !found.is_empty()))
        .await;
    assert!(series[0].0.contains(r#"instance="main""#) && series[0].0.contains("mountpoint="), "{series:?}");
    let snapshot = site.observatory.snapshot();
    let text = exposition::render(&snapshot.parts(), exposition::Format::Text);
    for name in ["node_memory_MemTotal_bytes ", "node_load1 ", "process_resident_memory_bytes ", "surus_store_up 1"] {
        assert_eq!(text.lines().filter(|line| line.starts_with(name)).count(), 1, "{name} in {text}");
    }
    let data = server.data_dir().to_path_buf();
    assert!(snapshot.targets[0].places.as_ref().is_some_and(|places| places.contains(&data)));
    site.observatory.stop().await;
}

/// Ends it when the test does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn scraped(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// Kind and label names of each family.
type Shapes = BTreeMap<String, (MetricKind, BTreeSet<String>)>;

fn shapes(text: &str) -> Shapes {
    let mut shapes = Shapes::new();
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let kind = match kind {
                "counter" => MetricKind::Counter,
                "gauge" => MetricKind::Gauge,
                _ => MetricKind::Unknown,
            };
            kinds.insert(name.to_owned(), kind);
        } else if !line.starts_with('#') && !line.is_empty() {
            let name = line.split(['{', ' ']).next().unwrap();
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
            let keys = labels.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            let kind = kinds.get(name).copied().unwrap_or(MetricKind::Unknown);
            shapes.entry(name.to_owned()).or_insert((kind, BTreeSet::new())).1.extend(keys);
        }
    }
    shapes
}

/// What node_exporter tells of these topics and surus does not: what a device is called and made of, and a counter that
/// only the netlink interface of the kernel has.
const NOT_TOLD: &[&str] = &[
    "node_disk_info",
    "node_disk_filesystem_info",
    "node_disk_device_mapper_info",
    "node_network_receive_nohandler_total",
    "node_network_transmit_queue_length",
    "node_cpu_info",
    "node_cpu_online",
];
/// The topics of both.
const TOPICS: &[&str] = &[
    "node_cpu_seconds",
    "node_cpu_guest",
    "node_memory_",
    "node_load",
    "node_disk_",
    "node_filesystem_",
    "node_network_receive_",
    "node_network_transmit_",
    "node_pressure_",
    "node_vmstat_",
    "node_filefd_",
    "node_uname_",
];

#[test]
fn names_kinds_and_labels_are_those_of_node_exporter() {
    if !Path::new(EXPORTER).exists() {
        eprintln!("skipped: names_kinds_and_labels_are_those_of_node_exporter: {EXPORTER} is not installed");
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(EXPORTER)
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(child);
    let limit = Deadline::after(Duration::from_secs(30));
    let theirs = loop {
        match scraped(port) {
            Some(text) if text.contains("node_load1") => break shapes(&text),
            _ => assert!(!limit.passed(), "node_exporter does not answer"),
        }
        thread::sleep(Duration::from_millis(100));
    };
    drop(running);
    let told = host::read(&[]);
    let part = exposition::Part { server: "", told: told.iter().collect() };
    let ours = shapes(&exposition::render(&[part], exposition::Format::Text));
    for (name, shape) in theirs.iter().filter(|(name, _)| TOPICS.iter().any(|topic| name.starts_with(topic))) {
        if !NOT_TOLD.contains(&name.as_str()) {
            assert_eq!(ours.get(name), Some(shape), "{name}: ours, theirs");
        }
    }
    // Lines of /proc/meminfo are told as the kernel names them, by both; one of them may begin between two looks.
    let unheard: Vec<&String> = ours.keys().filter(|name| !theirs.contains_key(*name)).collect();
    assert!(unheard.iter().all(|name| name.starts_with("node_memory_")), "{unheard:?}");
}
