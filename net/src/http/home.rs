//! Which core a connection lives on.
//!
//! Connections are dealt out in turn, before anything is known of what they will ask. Later two things may move one, always
//! between two requests, with whatever the client has sent already:
//!
//! - **Home.** The work of its last requests was all done on one other core. There it saves two hops a request, and it no
//!   longer waits for what else its old core does: an index whose core is quiet answers as fast beside a busy neighbour.
//!   Not while that core is busy itself and the old one is not: then reading and writing HTTP elsewhere is a help.
//! - **Room.** A core that never rests hands active connections to the one that rests most, if that has half its time left.
//!
//! How busy a core is, it says itself every tick ([`Cores`]). A connection that has moved needs twice as many requests before it
//! moves again, and only a part of a core's connections may go in one tick, so that every step is seen before the next.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::body::Bytes;
use socket2::Socket;

/// Requests in a row with their work on the same other core before a connection goes there.
const REQUESTS_MIN: u32 = 16;
/// How often that doubles.
const MOVES_COUNTED: u32 = 8;
/// Per mille of its time that a core is busy, below which others send it connections of its own work.
const HOME_BELOW: u32 = 800;
/// As busy as this, a core makes room.
const ROOM_FROM: u32 = 950;
/// A core that others may make room on is at most so busy.
const ROOM_BELOW: u32 = 500;
/// A core with fewer active connections keeps them: they do not wait for each other.
const ACTIVE_MIN: u32 = 4;
/// The part of a core's connections that may go home in one tick.
const HOME_PART: u32 = 4;
/// The part of its active ones that may leave to make room.
const ROOM_PART: u32 = 8;

/// What the cores of a node tell each other.
#[derive(Debug)]
pub struct Cores(Vec<Load>);

#[derive(Debug, Default)]
struct Load {
    /// Per mille of the last tick.
    busy: AtomicU32,
    /// Connections.
    open: AtomicU32,
}

impl Cores {
    /// So many, all at rest.
    #[must_use]
    pub fn new(count: usize) -> Arc<Cores> {
        Arc::new(Cores((0..count).map(|_| Load::default()).collect()))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn busy(&self, core: usize) -> u32 {
        self.0[core].busy.load(Ordering::Relaxed)
    }

    fn open(&self, core: usize) -> u32 {
        self.0[core].open.load(Ordering::Relaxed)
    }

    /// Whether a core may get one more connection from another.
    fn has_place(&self, core: usize, connections_max: usize) -> bool {
        (self.open(core) as usize) < connections_max
    }

    /// The core that rests most of all but `own`.
    fn quietest(&self, own: usize) -> Option<usize> {
        (0..self.0.len()).filter(|core| *core != own).min_by_key(|core| self.busy(*core))
    }
}

/// A connection on its way to another core.
#[derive(Debug)]
pub struct Moving {
    pub(super) socket: Socket,
    pub(super) peer: SocketAddr,
    /// What the client has sent of its next requests.
    pub(super) unread: Bytes,
    pub(super) moves: u32,
}

/// How a core's connections reach others.
pub struct Neighbours {
    /// The core's number among [`Self::cores`].
    pub own: usize,
    /// All cores of the node.
    pub cores: Arc<Cores>,
    /// Hands a connection to a core; one that cannot be handed over comes back.
    pub hand: Box<dyn Fn(usize, Moving) -> Result<(), Moving>>,
}

/// Where the work of one connection's requests has been done of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leaning {
    core: usize,
    /// Requests in a row with their work on `core`, which is another one.
    streak: u32,
    /// Requests since the connection is here.
    requests: u32,
    /// How often it has moved.
    moves: u32,
}

impl Leaning {
    pub(super) fn after(moves: u32) -> Leaning {
        Leaning { moves, ..Leaning::default() }
    }

    pub(super) fn moves(self) -> u32 {
        self.moves
    }

    fn needed(self) -> u32 {
        REQUESTS_MIN << self.moves.min(MOVES_COUNTED)
    }

    /// A request has been answered, its work done on `core`, or on several or none.
    fn worked(&mut self, own: usize, on: WorkedOn) {
        self.requests = self.requests.saturating_add(1);
        match on {
            // Says nothing about the others.
            WorkedOn::None => {}
            WorkedOn::One(core) if core != own => {
                self.streak = if self.core == core { self.streak.saturating_add(1) } else { 1 };
                self.core = core;
            }
            WorkedOn::One(_) | WorkedOn::Several => self.streak = 0,
        }
    }
}

/// The cores of a node on which the work of a request was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkedOn {
    /// No core's in particular.
    #[default]
    None,
    /// One.
    One(usize),
    /// More than one.
    Several,
}

/// What one core lets its connections do until the next tick.
pub(super) struct Homes {
    neighbours: Neighbours,
    connections_max: usize,
    /// Connections that may still go home.
    home: Cell<u32>,
    /// Where others may go to make room, and how many.
    room: Cell<(usize, u32)>,
}

impl Homes {
    pub(super) fn new(neighbours: Neighbours, connections_max: usize) -> Homes {
        assert!(neighbours.own < neighbours.cores.0.len(), "a core is among the cores");
        Homes { neighbours, connections_max, home: Cell::new(0), room: Cell::new((0, 0)) }
    }

    /// The core was busy for so many per mille of the time since the last tick, in which `active` of its `open` connections
    /// have asked something.
    pub(super) fn tick(&self, busy: u32, open: usize, active: u32) {
        let (own, cores) = (self.neighbours.own, &self.neighbours.cores);
        cores.0[own].busy.store(busy, Ordering::Relaxed);
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        cores.0[own].open.store(open, Ordering::Relaxed);
        self.home.set((open / HOME_PART).max(1));
        let room = cores.quietest(own).filter(|core| {
            busy >= ROOM_FROM && cores.busy(*core) <= ROOM_BELOW && cores.has_place(*core, self.connections_max)
        });
        self.room.set(match room {
            Some(core) if active >= ACTIVE_MIN => (core, (active / ROOM_PART).max(1)),
            _ => (own, 0),
        });
    }

    /// A connection has had an answer, whose work was done `on`. Where it goes now, if anywhere.
    pub(super) fn answered(&self, leaning: &mut Leaning, on: WorkedOn) -> Option<usize> {
        let (own, cores) = (self.neighbours.own, &self.neighbours.cores);
        leaning.worked(own, on);
        if leaning.requests < leaning.needed() {
            return None;
        }
        let home = (leaning.streak >= leaning.needed()).then_some(leaning.core);
        let home = home.filter(|core| cores.busy(*core) < HOME_BELOW && cores.has_place(*core, self.connections_max));
        if home.is_some() && self.home.get() > 0 {
            self.home.set(self.home.get() - 1);
            return home;
        }
        let (core, left) = self.room.get();
        (left > 0).then(|| self.room.set((core, left - 1)))?;
        Some(core)
    }

    /// Hands a connection over.
    pub(super) fn hand(&self, core: usize, moving: Moving) -> Result<(), Moving> {
        (self.neighbours.hand)(core, moving)?;
        // Until that core says so itself.
        self.neighbours.cores.0[core].open.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn homes(own: usize, cores: &Arc<Cores>) -> Homes {
        let hand = Box::new(|_, _| Ok(()));
        Homes::new(Neighbours { own, cores: Arc::clone(cores), hand }, 100)
    }

    /// Answers until it moves, at most `most`; how many that took, and where to.
    fn until(homes: &Homes, leaning: &mut Leaning, on: WorkedOn, most: u32) -> Option<(u32, usize)> {
        (1..=most).find_map(|n| homes.answered(leaning, on).map(|core| (n, core)))
    }

    #[test]
    fn a_connection_goes_where_its_work_is_and_stays() {
        let cores = Cores::new(2);
        let (here, there) = (homes(0, &cores), homes(1, &cores));
        here.tick(300, 8, 8);
        there.tick(700, 8, 8);
        let mut leaning = Leaning::default();
        assert_eq!(until(&here, &mut leaning, WorkedOn::One(1), 1000), Some((REQUESTS_MIN, 1)));
        let mut moved = Leaning::after(leaning.moves() + 1);
        assert_eq!(until(&there, &mut moved, WorkedOn::One(1), 10_000), None);
        // It leaves again only after more requests than before.
        assert_eq!(until(&there, &mut moved, WorkedOn::One(0), 1000), Some((2 * REQUESTS_MIN, 0)));
    }

    #[test]
    fn requests_without_a_core_of_their_own_change_nothing_and_others_start_again() {
        let cores = Cores::new(2);
        let here = homes(0, &cores);
        here.tick(0, 4, 4);
        let mut leaning = Leaning::default();
        for other in [WorkedOn::One(0), WorkedOn::Several] {
            assert_eq!(until(&here, &mut leaning, WorkedOn::One(1), REQUESTS_MIN - 1), None);
            assert_eq!(here.answered(&mut leaning, other), None);
        }
        assert_eq!(until(&here, &mut leaning, WorkedOn::One(1), REQUESTS_MIN - 1), None);
        assert_eq!(here.answered(&mut leaning, WorkedOn::None), None);
        assert_eq!(here.answered(&mut leaning, WorkedOn::One(1)), Some(1));
    }

    #[test]
    fn a_busy_core_gets_no_connections_and_makes_room() {
        let cores = Cores::new(3);
        let (here, busy) = (homes(0, &cores), homes(1, &cores));
        homes(2, &cores).tick(400, 8, 8);
        here.tick(300, 8, 8);
        busy.tick(990, 64, 64);
        assert_eq!(until(&here, &mut Leaning::default(), WorkedOn::One(1), 1000), None);
        // Told the others' load only now.
        busy.tick(990, 64, 64);
        let moved: Vec<_> =
            (0..64).filter_map(|_| until(&busy, &mut Leaning::default(), WorkedOn::One(1), 100)).collect();
        assert_eq!(moved, [(REQUESTS_MIN, 0); 64 / ROOM_PART as usize], "a part of them, to the quietest");
        here.tick(ROOM_BELOW + 1, 8, 8);
        homes(2, &cores).tick(ROOM_BELOW + 1, 8, 8);
        busy.tick(990, 64, 64);
        assert_eq!(until(&busy, &mut Leaning::default(), WorkedOn::One(1), 100), None, "nobody has room");
    }

    #[test]
    fn a_few_connections_that_keep_a_core_busy_stay() {
        let cores = Cores::new(2);
        let here = homes(0, &cores);
        here.tick(1000, 64, ACTIVE_MIN - 1);
        assert_eq!(until(&here, &mut Leaning::default(), WorkedOn::One(0), 1000), None);
    }

    #[test]
    fn a_part_of_the_connections_goes_in_one_tick_and_a_full_core_gets_none() {
        let cores = Cores::new(2);
        let (here, there) = (homes(0, &cores), homes(1, &cores));
        here.tick(500, 12, 12);
        let wish = || until(&here, &mut Leaning::default(), WorkedOn::One(1), 100).is_some();
        assert_eq!((0..12).filter(|_| wish()).count(), 3);
        here.tick(500, 9, 9);
        assert!(wish());
        there.tick(0, 100, 0);
        assert!(!wish());
    }
}
