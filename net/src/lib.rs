//! Everything between nodes, and between client and node.
