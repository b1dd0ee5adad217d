//! Disks: where copies may not go, must not stay, and which indices must not grow.

use std::collections::BTreeSet;

use super::deciders::{Decisions, Question, Verdict, decide};
use super::model::Model;
use super::settings::{Watermark, show_bytes};
use crate::cluster::routing::{CopyState, RecoverySource};

const NAME: &str = "disk_threshold";
/// Blocks writes, but lets an index be deleted.
pub const READ_ONLY_ALLOW_DELETE: &str = "index.blocks.read_only_allow_delete";

/// Why nothing is asked of the disk, if so.
fn not_asked(model: &Model<'_>, q: &Question<'_>) -> Option<&'static str> {
    if !model.settings.disk_enabled {
        return Some("the disk threshold decider is disabled");
    }
    if model.nodes.len() < 2 && !model.settings.disk_single_node {
        return Some("there is only a single data node present");
    }
    if model.inputs.disks.is_empty() {
        return Some("the cluster info is unavailable");
    }
    model.nodes[q.node].disk.is_none().then_some("disk usages are unavailable")
}

pub(super) fn can_allocate(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    if let Some(text) = not_asked(model, q) {
        return decide(out, NAME, Verdict::Yes, || text.to_owned());
    }
    let node = &model.nodes[q.node];
    let Some(disk) = node.disk else { return };
    if node.incoming_bytes > disk.available {
        return decide(out, NAME, Verdict::No, || {
            format!(
                "the node has fewer free bytes remaining than the total size of all incoming shards: free space [{}B], relocating \
                 shards [{}B]",
                disk.available, node.incoming_bytes
            )
        });
    }
    let free = disk.available - node.incoming_bytes;
    let (low, high) = (&model.settings.low, &model.settings.high);
    let is_new =
        q.copy.primary && q.copy.state == CopyState::Unassigned && q.copy.recovery_source == RecoverySource::EmptyStore;
    if low.is_passed(free, disk.total) && !is_new {
        return decide(out, NAME, Verdict::No, || above("low", low, free, disk.total));
    }
    if high.is_passed(free, disk.total) {
        return decide(out, NAME, Verdict::No, || above("high", high, free, disk.total));
    }
    if low.is_passed(free, disk.total) {
        return decide(out, NAME, Verdict::Yes, || {
            "the node is above the low watermark, but less than the high watermark, and this primary shard has never been \
             allocated before"
                .to_owned()
        });
    }
    let size = model.size_of(q.index, q.shard);
    let after = free.saturating_sub(size);
    if high.is_passed(after, disk.total) {
        return decide(out, NAME, Verdict::No, || match high {
            Watermark::FreeBytes(least) => format!(
                "allocating the shard to this node will bring the node above the high watermark cluster setting \
                 [cluster.routing.allocation.disk.watermark.high={high}] and cause it to have less than the minimum required \
                 [{}] of free space (free: [{}], estimated shard size: [{}])",
                show_bytes(*least),
                show_bytes(free),
                show_bytes(size)
            ),
            Watermark::Percent(most) => format!(
                "allocating the shard to this node will bring the node above the high watermark cluster setting \
                 [cluster.routing.allocation.disk.watermark.high={high}] and cause it to use more disk space than the maximum \
                 allowed [{most:?}%] (free space after shard added: [{:?}%])",
                percent(after, disk.total)
            ),
        });
    }
    decide(out, NAME, Verdict::Yes, || {
        format!(
            "enough disk for shard on node, free: [{}], shard size: [{}], free after allocating shard: [{}]",
            show_bytes(free),
            show_bytes(size),
            show_bytes(after)
        )
    });
}

pub(super) fn can_remain(model: &Model<'_>, q: &Question<'_>, out: &mut Decisions) {
    if let Some(text) = not_asked(model, q) {
        return decide(out, NAME, Verdict::Yes, || text.to_owned());
    }
    let node = &model.nodes[q.node];
    let Some(disk) = node.disk else { return };
    let have = disk.available.saturating_add(node.leaving_bytes);
    if node.incoming_bytes > have {
        return decide(out, NAME, Verdict::No, || {
            format!(
                "the shard cannot remain on this node because the node has fewer free bytes remaining than the total size of all \
                 incoming shards: free space [{have}], relocating shards [{}]",
                node.incoming_bytes
            )
        });
    }
    let free = (have - node.incoming_bytes).min(disk.total);
    let high = &model.settings.high;
    if high.is_passed(free, disk.total) {
        return decide(out, NAME, Verdict::No, || {
            let (required, actual) = match high {
                Watermark::FreeBytes(least) => (
                    format!("there is less than the required [{}] free space", show_bytes(*least)),
                    format!("[{}]", show_bytes(free)),
                ),
                Watermark::Percent(most) => (
                    format!("there is less than the required [{:?}%] free disk", 100.0 - most),
                    format!("[{:?}%]", percent(free, disk.total)),
                ),
            };
            format!(
                "the shard cannot remain on this node because it is above the high watermark cluster setting \
                 [cluster.routing.allocation.disk.watermark.high={high}] and {required} on node, actual free: {actual}"
            )
        });
    }
    decide(out, NAME, Verdict::Yes, || {
        format!("there is enough disk on this node for the shard to remain, free: [{}]", show_bytes(free))
    });
}

fn above(level: &str, mark: &Watermark, free: u64, total: u64) -> String {
    let setting = format!(
        "the node is above the {level} watermark cluster setting [cluster.routing.allocation.disk.watermark.{level}={mark}]"
    );
    match mark {
        Watermark::FreeBytes(least) => format!(
            "{setting}, having less than the minimum required [{}] free space, actual free: [{}]",
            show_bytes(*least),
            show_bytes(free)
        ),
        Watermark::Percent(most) => format!(
            "{setting}, using more disk space than the maximum allowed [{most:?}%], actual free: [{:?}%]",
            percent(free, total)
        ),
    }
}

fn percent(part: u64, total: u64) -> f64 {
    if total == 0 { 100.0 } else { part as f64 * 100.0 / total as f64 }
}

/// Blocks the indices with a copy on a disk beyond the flood stage; releases those of which all disks are known and below the high
/// watermark again.
pub(super) fn flood(model: &mut Model<'_>) {
    if !model.settings.disk_enabled || model.inputs.disks.is_empty() {
        return;
    }
    let mut full = BTreeSet::new();
    let mut tight = BTreeSet::new();
    for node in &model.nodes {
        match node.disk {
            Some(disk) if model.settings.flood.is_passed(disk.available, disk.total) => {
                full.insert(node.node.id);
            }
            Some(disk) if !model.settings.high.is_passed(disk.available, disk.total) => {}
            _ => {
                tight.insert(node.node.id);
            }
        }
    }
    for index in 0..model.indices.len() {
        let uuid = model.indices[index].uuid.clone();
        let meta = &model.indices[index].meta;
        let blocked = meta.settings.get(READ_ONLY_ALLOW_DELETE).is_some_and(|v| *v == "true" || *v == true);
        let Some(routing) = model.draft.state.routing.get(&uuid) else { continue };
        let nodes: BTreeSet<_> = routing.shards.iter().flatten().filter_map(|copy| copy.node).collect();
        let over = !nodes.is_disjoint(&full);
        let edit = if over && !blocked {
            Some(true)
        } else if blocked && !over && nodes.is_disjoint(&tight) {
            Some(false)
        } else {
            None
        };
        let Some(block) = edit else { continue };
        if let Some(meta) = model.draft.edit_index(&uuid) {
            if block {
                meta.settings.insert(READ_ONLY_ALLOW_DELETE.to_owned(), "true".into());
            } else {
                meta.settings.remove(READ_ONLY_ALLOW_DELETE);
            }
            meta.settings_version += 1;
            model.indices[index].meta = std::sync::Arc::new(meta.clone());
        }
    }
}
