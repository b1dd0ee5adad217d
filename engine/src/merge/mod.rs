//! Merges: which segments become one ([`policy`], a pure function), and making one of them ([`merger`], streaming).

pub mod merger;
pub mod policy;
pub mod sink;
