//! The load averages: `/proc/loadavg`.

use crate::collector::Page;

super::families! {
    ONE = Gauge "node_load1" "Tasks that ran or waited, averaged over 1 minute";
    FIVE = Gauge "node_load5" "Tasks that ran or waited, averaged over 5 minutes";
    FIFTEEN = Gauge "node_load15" "Tasks that ran or waited, averaged over 15 minutes";
}

pub(super) fn read(loadavg: &str, page: &mut Page) {
    for (family, word) in FAMILIES.iter().zip(loadavg.split_whitespace()) {
        if let Ok(load) = word.parse() {
            page.tell(family, [], load);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_averages() {
        let mut page = Page::default();
        read("0.20 1.50 2.25 3/400 12345\n", &mut page);
        let values: Vec<f64> = page.into_told().iter().map(|told| told.points[0].value).collect();
        assert_eq!(values, [0.2, 1.5, 2.25]);
    }
}
