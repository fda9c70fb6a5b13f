//! Network devices: `/proc/net/dev`.

use crate::collector::Page;
use surus_core::series::Family;

super::families! {
    IN_BYTES = Counter "node_network_receive_bytes_total" "Bytes received";
    IN_PACKETS = Counter "node_network_receive_packets_total" "Packets received";
    IN_ERRORS = Counter "node_network_receive_errs_total" "Errors of receiving";
    IN_DROPS = Counter "node_network_receive_drop_total" "Received packets that were dropped";
    IN_FIFO = Counter "node_network_receive_fifo_total" "Received packets that found the buffer full";
    IN_FRAMES = Counter "node_network_receive_frame_total" "Received packets that were malformed";
    IN_COMPRESSED = Counter "node_network_receive_compressed_total" "Compressed packets received";
    IN_MULTICAST = Counter "node_network_receive_multicast_total" "Multicast packets received";
    OUT_BYTES = Counter "node_network_transmit_bytes_total" "Bytes sent";
    OUT_PACKETS = Counter "node_network_transmit_packets_total" "Packets sent";
    OUT_ERRORS = Counter "node_network_transmit_errs_total" "Errors of sending";
    OUT_DROPS = Counter "node_network_transmit_drop_total" "Packets to be sent that were dropped";
    OUT_FIFO = Counter "node_network_transmit_fifo_total" "Packets to be sent that found the buffer full";
    OUT_COLLISIONS = Counter "node_network_transmit_colls_total" "Collisions";
    OUT_CARRIER = Counter "node_network_transmit_carrier_total" "Losses of the carrier while sending";
    OUT_COMPRESSED = Counter "node_network_transmit_compressed_total" "Compressed packets sent";
}

/// The columns after the name, in their order.
static COLUMNS: [&Family; 16] = [
    &IN_BYTES,
    &IN_PACKETS,
    &IN_ERRORS,
    &IN_DROPS,
    &IN_FIFO,
    &IN_FRAMES,
    &IN_COMPRESSED,
    &IN_MULTICAST,
    &OUT_BYTES,
    &OUT_PACKETS,
    &OUT_ERRORS,
    &OUT_DROPS,
    &OUT_FIFO,
    &OUT_COLLISIONS,
    &OUT_CARRIER,
    &OUT_COMPRESSED,
];
/// A machine with thousands of containers has as many devices; the first ones are its own.
const DEVICES_AT_MOST: usize = 200;

pub(super) fn read(dev: &str, page: &mut Page) {
    for line in dev.lines().skip(2).take(DEVICES_AT_MOST) {
        let Some((device, columns)) = line.rsplit_once(':') else { continue };
        for (family, word) in COLUMNS.iter().zip(columns.split_whitespace()) {
            if let Ok(value) = word.parse() {
                page.tell(family, [("device", device.trim())], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_columns_for_each_device() {
        let mut page = Page::default();
        let dev = "Inter-|   Receive                |  Transmit\n face |bytes packets|bytes\n\
                   \x20   lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0:100 0 0 0 0 0 0 0 200 0 0 0 0 0 0 0\n";
        read(dev, &mut page);
        let told = page.into_told();
        assert_eq!(told.len(), 16);
        assert_eq!(told[8].points[1].labels.to_string(), r#"{device="eth0"}"#);
        assert_eq!((told[8].points[1].value, told[15].points[0].value), (200.0, 16.0));
    }
}
