//! Several real servers that form a cluster: elections, failures, and what clients get to see of them.

mod calls;
mod chaos;
mod failing;
mod forming;
mod history;
mod http;
mod network;
mod nodes;
mod speaking;
mod workload;
