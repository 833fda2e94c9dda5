//! What does it take from the allocator? Counted, not timed.
//!
//! `memory/<implementation>/idle_subscription`: bytes for one that has received all, at a capacity of 128;
//! `…/setting`: bytes for one setting of 3,500; `allocations/…/<subscribers>`: how many a publish of 64 updates makes.

use allocation_counter::measure;
use configstream_benches::{
    end_with_parent,
    fan_out::{BURST, implementations},
    keep,
    record::{Figure, Part, Unit},
    settings::settings,
};

const SUBSCRIBERS: usize = 1_000;

fn main() -> std::io::Result<()> {
    end_with_parent();
    let mut figures = Vec::new();
    for implementation in implementations() {
        let open = |subscribers| {
            let mut rig = None;
            let made = measure(|| rig = Some((implementation.open)(subscribers)));
            made.bytes_current
        };
        let each = (open(SUBSCRIBERS) - open(0)) as f64 / SUBSCRIBERS as f64;
        let name = implementation.name;
        let id = format!("memory/{name}/idle_subscription");
        figures.push(Figure::new(id, Unit::Bytes, [each]));
        for subscribers in [1, 64, 512] {
            let mut rig = (implementation.open)(subscribers);
            rig.publish(BURST);
            rig.drain(BURST);
            let made = measure(|| rig.publish(BURST));
            rig.drain(BURST);
            let id = format!("allocations/{name}/{subscribers}");
            figures.push(Figure::new(id, Unit::Count, [made.count_total as f64]));
        }
    }
    let mut filled = None;
    let made = measure(|| filled = Some(settings(3_500)));
    let each = made.bytes_current as f64 / 3_500.0;
    figures.push(Figure::new("memory/engine/setting", Unit::Bytes, [each]));

    for figure in &figures {
        println!(
            "{:<44} {:>12.1} {:?}",
            figure.id, figure.median, figure.unit
        );
    }
    let part = Part {
        figures,
        ..Part::default()
    };
    keep(&part, "memory")
}
