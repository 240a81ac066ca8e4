//! Black-box tests of the whole: real nodes, real Redis, real clients. And `tidy`, which tests the house itself.

mod support;
mod tidy;
