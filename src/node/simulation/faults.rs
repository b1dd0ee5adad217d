//! What happens to simulated nodes.

use std::rc::Rc;
use std::time::Duration;

use ringdex_engine::store::Directory;

use super::{BASE_LATENCY, NODES, Run, data};
use crate::io::NodeIo;

/// Something that goes wrong with one node, for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies.
    Killed,
    /// The machine loses power, and what was not synced.
    PowerLost,
    /// The process stands still.
    Frozen,
    /// Nobody hears it, it hears nobody.
    Isolated,
    /// One other does not hear it.
    Mute,
    /// Messages take long.
    SlowNetwork,
    /// Connections break again and again.
    LossyNetwork,
    /// Every call of its disk takes long.
    SlowDisk,
    /// Its disk takes almost nothing more.
    FullDisk,
    /// It dies, and some bits of one file of a shard are not what they were when it comes back.
    Corrupted,
}

const ALL: [Fault; 9] = [
    Fault::Killed,
    Fault::PowerLost,
    Fault::Frozen,
    Fault::Isolated,
    Fault::Mute,
    Fault::SlowNetwork,
    Fault::LossyNetwork,
    Fault::SlowDisk,
    Fault::FullDisk,
];

impl Fault {
    /// Whether a node may be asked that does not know yet what the others have decided.
    fn hides(self) -> bool {
        !matches!(self, Fault::Killed | Fault::PowerLost | Fault::SlowDisk | Fault::FullDisk)
    }
}

impl Run {
    /// Some faults, one after the other. Each is over when this returns.
    pub async fn suffer(self: &Rc<Self>) {
        let world = &self.world;
        for _ in 0..4 {
            world.sleep(Duration::from_millis(200 + world.random() % 1500)).await;
            let fault = ALL[world.random() as usize % ALL.len()];
            self.one_fault(fault).await;
        }
        // At the end: when a copy is damaged, another one must be there.
        if world.random().is_multiple_of(4) && self.settled().await {
            self.one_fault(Fault::Corrupted).await;
        }
    }

    async fn one_fault(self: &Rc<Self>, fault: Fault) {
        let (world, network) = (&self.world, &self.network);
        let node = world.random() as usize % NODES;
        let pause = Duration::from_millis(100 + world.random() % 4000);
        let begin = world.monotonic_ns();
        tracing::info!(node, ?pause, ?fault, ms = begin / 1_000_000, "a fault");
        let machine = world.machine(node as u32 + 1);
        match fault {
            Fault::Killed | Fault::PowerLost | Fault::Corrupted => {
                self.kill(node, fault == Fault::PowerLost);
                if fault == Fault::Corrupted {
                    self.damage(node).await;
                }
                world.sleep(pause).await;
                self.start(node).await;
            }
            Fault::Frozen => {
                machine.freeze();
                world.sleep(pause * 4).await;
                machine.thaw();
            }
            Fault::Isolated => {
                let others = (0..NODES).filter(|other| *other != node);
                network.cut.borrow_mut().extend(others.flat_map(|other| [(node, other), (other, node)]));
                network.hang_up(node);
                world.sleep(pause).await;
            }
            Fault::Mute => {
                network.cut.borrow_mut().insert((node, (node + 1) % NODES));
                world.sleep(pause).await;
            }
            Fault::SlowNetwork => {
                network.slow.set(Some(node));
                world.sleep(pause).await;
            }
            Fault::LossyNetwork => {
                network.lossy.set(Some(node));
                world.sleep(pause).await;
            }
            Fault::SlowDisk => {
                world.set_latency(&data(node), Duration::from_millis(300));
                world.sleep(pause).await;
                world.set_latency(&data(node), BASE_LATENCY);
            }
            Fault::FullDisk => {
                let room = world.random() % 40_000;
                for (_, disk) in world.disks(&data(node)) {
                    disk.limit_space(Some(disk.used_space() + room));
                }
                world.sleep(pause).await;
                for (_, disk) in world.disks(&data(node)) {
                    disk.limit_space(None);
                }
            }
        }
        network.heal();
        if fault.hides() {
            // Until everybody has heard of everything.
            let end = world.monotonic_ns() + 15_000_000_000;
            self.hidden.borrow_mut().push((begin, end));
        }
    }

    /// Flips bits in a file of one of a node's shards.
    async fn damage(&self, node: usize) {
        for (path, disk) in self.world.disks(&data(node)) {
            if path == data(node) {
                continue;
            }
            let files = disk.list().await.expect("it runs");
            let files: Vec<_> = files.into_iter().filter(|(_, size)| *size > 0).collect();
            if files.is_empty() {
                continue;
            }
            let (name, size) = &files[self.world.random() as usize % files.len()];
            for _ in 0..1 + self.world.random() % 3 {
                let at = self.world.random() % (*size).min(4096);
                disk.flip(name, at, (self.world.random() % 8) as u8);
            }
            tracing::info!(path = %path.display(), name, "damaged");
            return;
        }
    }
}
