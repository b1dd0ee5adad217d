//! The real server, its own process, over real sockets and a real disk.

mod demo;
mod kill;
mod process;
