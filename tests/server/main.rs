//! The real server, its own process, over real sockets and a real disk.

mod bad_input;
mod bench;
mod caches;
mod deadlines;
mod demo;
mod disk_full;
mod kill;
mod process;
mod slow;
mod stop;
mod tasks;
mod timing;
