//! Black-box tests of the whole: real nodes, real Redis, real clients.
