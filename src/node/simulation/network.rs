//! The network between simulated nodes: it delays, loses, repeats, and lets nothing through, one way or both.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringdex_net::cluster::ids::NodeId;
use ringdex_net::transport::{Handler, Identity, LocalFuture, PeerAddress, PeerEvent, Transport, TransportError};
use ringdex_net::wire::{Lane as WireLane, MessageKind, Payload};

use super::NODES;
use crate::io::{Lane, NodeIo};
use crate::sim::SimWorld;

/// What listens at an address.
#[derive(Clone)]
pub(super) struct End {
    pub cluster: Rc<dyn Handler>,
    pub core: Rc<dyn Handler>,
}

/// The network between nodes, by number.
pub(super) struct Network {
    pub world: SimWorld,
    pub ends: RefCell<BTreeMap<usize, End>>,
    /// Ways that nothing passes.
    pub cut: RefCell<BTreeSet<(usize, usize)>>,
    /// A node whose messages, and those to it, take long.
    pub slow: Cell<Option<usize>>,
    /// A node whose connections break again and again; what is under way then is lost, or comes twice.
    pub lossy: Cell<Option<usize>>,
    pub observers: RefCell<BTreeMap<usize, Rc<dyn Fn(PeerEvent)>>>,
    /// When the last message of each way and lane arrives: those behind it come later.
    last: RefCell<BTreeMap<(usize, usize, u8), u64>>,
    /// Counts the lives of each node: an answer to an earlier one is lost.
    pub lives: RefCell<BTreeMap<usize, u64>>,
}

pub(super) fn id(node: usize) -> NodeId {
    NodeId((node as u128 + 1) << 96 | 7)
}

pub(super) fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 9300))
}

fn number(address: &SocketAddr) -> usize {
    let SocketAddr::V4(v4) = address else { panic!("{address}") };
    usize::from(v4.ip().octets()[3]) - 1
}

impl Network {
    pub fn new(world: SimWorld) -> Rc<Network> {
        Rc::new(Network {
            world,
            ends: RefCell::default(),
            cut: RefCell::default(),
            slow: Cell::default(),
            lossy: Cell::default(),
            observers: RefCell::default(),
            last: RefCell::default(),
            lives: RefCell::default(),
        })
    }

    /// All is well again.
    pub fn heal(&self) {
        self.cut.borrow_mut().clear();
        self.slow.take();
        self.lossy.take();
    }

    /// Whether the connection from one to the other breaks now.
    fn breaks(&self, from: usize, to: usize, lane: WireLane) -> bool {
        let lossy = self.lossy.get().is_some_and(|node| node == from || node == to);
        let breaks = lossy && self.world.random().is_multiple_of(8);
        if breaks {
            tracing::debug!(from, to, ?lane, ms = self.world.monotonic_ns() / 1_000_000, "a connection breaks");
        }
        if breaks && lane == WireLane::Cluster {
            self.tell(from, PeerEvent::Disconnected(id(to)));
        }
        breaks
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut.borrow().contains(&(from, to))
            && self.ends.borrow().contains_key(&to)
            && self.ends.borrow().contains_key(&from)
    }

    fn life(&self, node: usize) -> u64 {
        self.lives.borrow().get(&node).copied().unwrap_or(0)
    }

    /// Time on the way; in order per lane.
    fn arrival(&self, from: usize, to: usize, lane: WireLane) -> Duration {
        let now = self.world.monotonic_ns();
        let random = self.world.random();
        let takes = match random % 50 {
            _ if self.slow.get().is_some_and(|node| node == from || node == to) => 1_000_000 + random % 700_000_000,
            0 => 20_000_000 + random % 80_000_000,
            _ => 50_000 + random % 2_000_000,
        };
        let mut last = self.last.borrow_mut();
        let at = (now + takes).max(last.get(&(from, to, lane as u8)).copied().unwrap_or(0) + 1);
        last.insert((from, to, lane as u8), at);
        Duration::from_nanos(at - now)
    }

    fn tell(&self, node: usize, event: PeerEvent) {
        let observer = self.observers.borrow().get(&node).cloned();
        if let Some(observer) = observer {
            observer(event);
        }
    }

    /// Everybody hears of a node that is gone.
    pub fn hang_up(&self, node: usize) {
        for other in (0..NODES).filter(|other| *other != node) {
            self.tell(other, PeerEvent::Disconnected(id(node)));
        }
    }
}

/// One executor's way to the others.
pub(super) struct Way {
    pub network: Rc<Network>,
    pub from: usize,
    pub io: SimWorld,
}

impl Transport for Way {
    fn request(
        &self,
        to: &PeerAddress,
        lane: WireLane,
        kind: MessageKind,
        payload: Payload,
        timeout: Duration,
    ) -> LocalFuture<Result<Bytes, TransportError>> {
        let (network, from, to) = (Rc::clone(&self.network), self.from, number(&to.address));
        let io = self.io.clone();
        let there = network.arrival(from, to, lane);
        let asked = {
            let io = io.clone();
            async move {
                io.sleep(there).await;
                let end = network.ends.borrow().get(&to).cloned();
                if network.breaks(from, to, lane) {
                    return Err(TransportError::Closed("broken".to_owned()));
                }
                let (Some(end), true) = (end, network.passes(from, to)) else {
                    network.tell(from, PeerEvent::Disconnected(id(to)));
                    return Err(TransportError::NotConnected("no way".to_owned()));
                };
                let life = network.life(to);
                let handler = if lane == WireLane::Cluster { &end.cluster } else { &end.core };
                // It runs on the machine that was asked, whoever waits.
                let done: crate::mesh::OneShot<_> = crate::mesh::OneShot::default();
                let answer = done.clone();
                let handled = handler.handle(id(from), kind, payload.into_bytes());
                network
                    .world
                    .machine(to as u32 + 1)
                    .spawn(Lane::Write, Box::pin(async move { answer.set(handled.await) }));
                let back = network.arrival(to, from, lane);
                let lost = async {
                    loop {
                        io.sleep(Duration::from_millis(50)).await;
                        if network.life(to) != life || !network.passes(to, from) {
                            return None;
                        }
                    }
                };
                let answered = futures_lite::future::or(async { Some(done.get().await) }, lost).await;
                io.sleep(back).await;
                match answered {
                    Some(_) if network.breaks(to, from, lane) => {
                        Err(TransportError::Closed("broken on the way back".to_owned()))
                    }
                    Some(answer) if network.passes(to, from) && network.life(to) == life => {
                        answer.map(Payload::into_bytes).map_err(TransportError::Remote)
                    }
                    _ => Err(TransportError::Closed("lost".to_owned())),
                }
            }
        };
        let late = async move {
            io.sleep(timeout).await;
            Err(TransportError::Timeout)
        };
        Box::pin(futures_lite::future::or(asked, late))
    }

    fn notify(&self, to: &PeerAddress, lane: WireLane, kind: MessageKind, payload: Payload) {
        let (network, from, to) = (Rc::clone(&self.network), self.from, number(&to.address));
        let there = network.arrival(from, to, lane);
        tracing::trace!(from, to, kind = kind.name(), ms = self.network.world.monotonic_ns() / 1_000_000, "sent");
        let world = network.world.clone();
        let deliver = async move {
            network.world.sleep(there).await;
            // What does not pass is sent again, as TCP does, until the connection is given up.
            for _ in 0..50 {
                if network.passes(from, to) || !network.ends.borrow().contains_key(&to) {
                    break;
                }
                network.world.sleep(Duration::from_millis(200)).await;
            }
            let end = network.ends.borrow().get(&to).cloned();
            match end {
                Some(_) if network.breaks(from, to, WireLane::Cluster) => {}
                Some(end) if network.passes(from, to) => {
                    let payload = payload.into_bytes();
                    let twice = network.lossy.get().is_some() && network.world.random().is_multiple_of(8);
                    for _ in 0..=u8::from(twice) {
                        let handled = end.cluster.handle(id(from), kind, payload.clone());
                        let world = network.world.machine(to as u32 + 1);
                        world.spawn(Lane::Write, Box::pin(async move { drop(handled.await) }));
                    }
                }
                _ => network.tell(from, PeerEvent::Disconnected(id(to))),
            }
        };
        // On the wire: it is under way whatever becomes of who sent it.
        world.spawn(Lane::Write, Box::pin(deliver));
    }

    fn identify(&self, to: &PeerAddress, _: WireLane, _: Duration) -> LocalFuture<Result<Identity, TransportError>> {
        let to = to.address;
        Box::pin(async move { Err(TransportError::NotConnected(format!("{to} is not asked so here"))) })
    }

    fn disconnect(&self, _: NodeId) {}

    fn observe(&self, observer: Rc<dyn Fn(PeerEvent)>) {
        self.network.observers.borrow_mut().insert(self.from, observer);
    }
}
